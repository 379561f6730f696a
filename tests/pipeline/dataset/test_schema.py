import json

import pyarrow as pa
from datasets import Features, Video

from pipeline.dataset.schema import (
    SCHEMA,
    Provenance,
    SampleOutcome,
    make_row,
    media_key,
    rejected_row,
    to_table,
)
from pipeline.dataset.versions import versions
from pipeline.requests.sample_request import SampleRequest

REQUEST = SampleRequest(
    "p", "n", "demo", "r", "S/3", 50, 4.0, 64, 64, 17, 8, 32, 3, source_key="f:1"
)
COLUMNS = (
    "sample_id,video,caption,negative_prompt,source_key,model,model_revision,seed,"
    "num_inference_steps,guidance_scale,width,height,num_frames,fps,duration_s,status,error_type,"
    "error_message,attempts,run_id,created_at,wall_s,gpu_s,device_name,group_size,batch_rows,"
    "encode_s,upload_s,peak_memory_bytes,media_bytes,media_sha256,cache,control_of,versions,"
    "quality,worker,times,parallel,image_sha256,source,"
    "seed_u64,prompt_tokens,prompt_truncated,settings,"
    "scores,scorers,scores_missing,score_s,perceptual_hash,good,guidance_scale_2,"
    "candidate,candidates,drafts,quantisation,conditions,audio_sample_rate,"
    "recaption,recaptioner,tensors"
)


def test_columns_are_the_contract() -> None:
    assert ",".join(SCHEMA.names) == COLUMNS
    assert SCHEMA.field("cache").type.names == [
        "policy",
        "profile",
        "nfe",
        "reused",
        "decisions",
        "predicted_error",
        "actual_error",
        "max_score",
        "disagreements",
        "profile_source",
        "promised_error",
    ]
    assert SCHEMA.field("quality").type.names == [
        "psnr_db",
        "ssim",
        "lpips",
        "missing",
        "latent_error",
        "clip_wall_s",
    ]
    assert SCHEMA.field("parallel").type.names == [
        "backend",
        "ulysses",
        "ring",
        "reason",
        "cfg",
        "vae",
    ]


def test_datasets_reads_video_as_a_video_column() -> None:
    assert Features.from_arrow_schema(SCHEMA)["video"] == Video()
    assert Video().pa_type == SCHEMA.field("video").type
    assert json.loads(SCHEMA.metadata[b"huggingface"])["info"]["features"]


def test_errors_of_the_cache_are_unknown_where_no_network_ran() -> None:
    failed = make_row(REQUEST, Provenance("run"), SampleOutcome("failed", "E", "m"))
    rejected = rejected_row("0" * 20, "", "f:2", "demo", "run", "m")
    for row in to_table([failed, rejected]).to_pylist():
        assert row["cache"]["predicted_error"] is None
        assert row["cache"]["actual_error"] is None
        assert row["cache"]["nfe"] == 0


def test_rows_of_every_status_share_one_schema_without_null_types() -> None:
    provenance = Provenance("run", "GPU", 4, 2, 1, 3.0, 7)
    rows = [
        make_row(REQUEST, provenance, SampleOutcome("ok")),
        make_row(REQUEST, provenance, SampleOutcome("failed", "E", "m")),
        rejected_row("0" * 20, "c", "f:2", "demo", "run", "bad"),
    ]
    for row in rows:
        assert list(row) == SCHEMA.names
        table = to_table([row])
        assert table.schema.equals(SCHEMA, check_metadata=True)
        for name in ("error_type", "error_message", "media_sha256", "control_of"):
            assert table[name].null_count == 0
    ok, failed, rejected = rows
    unknown = [name for name in ("seed", "seed_u64", "guidance_scale") if rejected[name] is None]
    assert unknown == ["seed", "seed_u64", "guidance_scale"]  # 0 would be a value of each
    assert (ok["gpu_s"], ok["duration_s"]) == (12.0, 17 / 8)
    assert ok["video"] == {"bytes": None, "path": media_key(ok["sample_id"])}
    assert (failed["video"], failed["duration_s"]) == (None, 0.0)
    assert pa.concat_tables([to_table([row]) for row in rows]).num_rows == 3


def test_versions_name_this_package_and_its_libraries() -> None:
    found = versions()
    assert found["pipeline"]
    assert found["torch"]
    assert set(found) == set(SCHEMA.field("versions").type.names)
