"""The columns of an output row as an Arrow schema, and the functions that build rows.

The schema carries the `huggingface` metadata key, so `datasets` reads `video` as a Video column
(datasets 4 and 5 read that key from Parquet; this module does not need the library).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from pipeline.dataset.struct_columns import (
    CACHE_TYPE,
    CONDITIONS_TYPE,
    DRAFTS_TYPE,
    PARALLEL_TYPE,
    QUALITY_TYPE,
    SCORES_TYPE,
    TENSORS_TYPE,
    TIMES_TYPE,
    WORKER_TYPE,
    condition_structs,
    image_hash,
    zero,
)
from pipeline.dataset.versions import VERSIONED, versions
from pipeline.parallel.layout import ALONE
from pipeline.redaction import shown
from pipeline.requests.run_settings import settings_text
from pipeline.requests.sample_request import SampleRequest

Status = Literal["ok", "failed", "rejected"]

Row = dict[str, Any]
"""An output row as plain values."""

SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("video", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("caption", pa.string()),
        ("negative_prompt", pa.string()),
        ("source_key", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("seed", pa.int64()),
        ("num_inference_steps", pa.int32()),
        ("guidance_scale", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_frames", pa.int32()),
        ("fps", pa.int32()),
        ("duration_s", pa.float64()),
        ("status", pa.string()),
        ("error_type", pa.string()),
        ("error_message", pa.string()),
        ("attempts", pa.int32()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("wall_s", pa.float64()),
        ("gpu_s", pa.float64()),
        ("device_name", pa.string()),
        ("group_size", pa.int32()),
        ("batch_rows", pa.int32()),
        ("encode_s", pa.float64()),
        ("upload_s", pa.float64()),
        ("peak_memory_bytes", pa.int64()),
        ("media_bytes", pa.int64()),
        ("media_sha256", pa.string()),
        ("cache", CACHE_TYPE),
        ("control_of", pa.string()),
        ("versions", pa.struct([(name, pa.string()) for name in VERSIONED])),
        ("quality", QUALITY_TYPE),
        ("worker", WORKER_TYPE),
        ("times", TIMES_TYPE),
        ("parallel", PARALLEL_TYPE),
        ("image_sha256", pa.string()),
        ("source", pa.string()),
        ("seed_u64", pa.uint64()),
        ("prompt_tokens", pa.int32()),
        ("prompt_truncated", pa.bool_()),
        ("settings", pa.string()),
        ("scores", SCORES_TYPE),
        ("scorers", pa.list_(pa.string())),
        ("scores_missing", pa.string()),
        ("score_s", pa.float64()),
        ("perceptual_hash", pa.string()),
        ("good", pa.bool_()),
        ("guidance_scale_2", pa.float64()),
        ("candidate", pa.int32()),
        ("candidates", pa.int32()),
        ("drafts", DRAFTS_TYPE),
        ("quantisation", pa.string()),
        ("conditions", CONDITIONS_TYPE),
        ("audio_sample_rate", pa.int32()),
        ("recaption", pa.string()),
        ("recaptioner", pa.string()),
        ("tensors", TENSORS_TYPE),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": {"video": {"_type": "Video"}}}})},
)
"""Exact column names and types of `data/part-*.parquet`."""

NO_CACHE: Mapping[str, Any] = {
    "policy": "none",
    "profile": "",
    "nfe": 0,
    "reused": 0,
    "decisions": "",
    "predicted_error": None,
    "actual_error": None,
    "max_score": 0.0,
    "disagreements": 0,
    "profile_source": "",
    "promised_error": None,
}
"""The cache struct of a row for which no network ran."""

NO_SCORES: Mapping[str, Any] = {
    "scores": [],
    "scorers": [],
    "scores_missing": "",
    "score_s": 0.0,
    "perceptual_hash": "",
    "good": None,
}
"""The columns about scores in the row of a clip that nothing was asked about, or of no clip."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and how a sample was made; none of it may change its pixels.

    Attributes:
        run_id: The run that made it.
        device_name: As the driver reports it, e.g. `NVIDIA H100 80GB HBM3` or a CPU model.
        group_size: Ranks that held the model together.
        batch_rows: Samples in the same engine call.
        attempts: Attempts so far, this one included.
        wall_s: Seconds of the engine call that this sample accounts for (call / batch_rows).
        peak_memory_bytes: Peak device memory of the call; host memory of the process on CPU.
        worker: The `worker` struct of the row.
        times: The `times` struct of the row.
        parallel: The `parallel` struct of the row.
    """

    run_id: str
    device_name: str = ""
    group_size: int = 1
    batch_rows: int = 1
    attempts: int = 0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    worker: Mapping[str, Any] | None = None
    times: Mapping[str, float] | None = None
    parallel: Mapping[str, Any] = field(default_factory=ALONE.to_row)


@dataclass(frozen=True, slots=True)
class SampleOutcome:
    """How a sample ended; error fields are "" when ok (null-typed blocks break Parquet)."""

    status: Status
    error_type: str = ""
    error_message: str = ""
    cache: Mapping[str, Any] = field(default_factory=lambda: dict(NO_CACHE))
    prompt_tokens: int | None = None
    audio_sample_rate: int = 0


def media_key(sample_id: str, writer: str = "") -> str:
    """Path of a sample's mp4 inside the output prefix; two digits spread object-store load.

    Args:
        sample_id: The sample.
        writer: Hex digits that no other writer of this sample uses, where the plain name cannot be
            created safely; the row says the path.
    """
    own = f"-{writer}" if writer else ""
    return f"media/{sample_id[:2]}/{sample_id}{own}.mp4"


def draft_key(sample_id: str) -> str:
    """Path of a draft's row inside the output prefix; it is no row of the dataset."""
    return f"drafts/{sample_id[:2]}/{sample_id}.json"


def draft_clip_key(sample_id: str) -> str:
    """Path of a draft's mp4 inside the output prefix, where drafts are kept."""
    return f"drafts/{sample_id[:2]}/{sample_id}.mp4"


def make_row(request: SampleRequest, provenance: Provenance, outcome: SampleOutcome) -> Row:
    """Build an output row; `pipeline.dataset.clip_store` adds size, hash and times of the mp4.

    Places and errors pass `pipeline.redaction`; the texts of the request are the data and do not.

    An mp4 carries the same dictionary, as JSON, in its container metadata.
    """
    ok, tokens = outcome.status == "ok", outcome.prompt_tokens
    sample_id = request.sample_id
    return {
        "sample_id": sample_id,
        "video": {"bytes": None, "path": media_key(sample_id)} if ok else None,
        "caption": request.prompt,
        "negative_prompt": request.negative_prompt,
        "source_key": shown(request.source_key),
        "model": request.model,
        "model_revision": request.model_revision,
        "seed": request.seed if request.seed < 2**63 else None,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "width": request.width,
        "height": request.height,
        "num_frames": request.num_frames,
        "fps": request.fps,
        "duration_s": request.num_frames / request.fps if ok else 0.0,
        "status": outcome.status,
        "error_type": shown(outcome.error_type),
        "error_message": shown(outcome.error_message),
        "attempts": provenance.attempts,
        "run_id": provenance.run_id,
        "created_at": datetime.datetime.now(datetime.UTC),
        "wall_s": provenance.wall_s,
        "gpu_s": provenance.wall_s * provenance.group_size,
        "device_name": provenance.device_name,
        "group_size": provenance.group_size,
        "batch_rows": provenance.batch_rows,
        "encode_s": 0.0,
        "upload_s": 0.0,
        "peak_memory_bytes": provenance.peak_memory_bytes,
        "media_bytes": 0,
        "media_sha256": "",
        "cache": dict(outcome.cache),
        "control_of": request.control_of,
        "versions": versions(),
        "quality": None,
        "worker": dict(provenance.worker) if provenance.worker else None,
        "times": dict(provenance.times) if provenance.times else None,
        "parallel": dict(provenance.parallel),
        "image_sha256": image_hash(request.conditions),
        "source": request.source,
        "seed_u64": request.seed,
        "prompt_tokens": tokens,
        "prompt_truncated": None if tokens is None else tokens > request.max_sequence_length,
        "settings": shown(settings_text(request)),
        **NO_SCORES,
        "guidance_scale_2": request.guidance_scale_2,
        "candidate": request.candidate,
        "candidates": request.candidates,
        "drafts": json.loads(request.drafts or "[]"),
        "quantisation": request.quantisation,
        "conditions": condition_structs(request.conditions),
        "audio_sample_rate": outcome.audio_sample_rate,
        "recaption": "",
        "recaptioner": "",
        "tensors": None,
    }


def rejected_row(
    sample_id: str,
    caption: str,
    source_key: str,
    model: str,
    run_id: str,
    message: str,
    source: str = "",
) -> Row:
    """Build the output row of an input row that could not become a request."""
    row: Row = {name: zero(name, SCHEMA.field(name).type) for name in SCHEMA.names}
    return row | {
        "sample_id": sample_id,
        "video": None,
        "caption": caption,
        "source_key": shown(source_key),
        "model": model,
        "status": "rejected",
        "error_type": "RowRejectedError",
        "error_message": shown(message),
        "run_id": run_id,
        "created_at": datetime.datetime.now(datetime.UTC),
        "cache": dict(NO_CACHE),
        "versions": versions(),
        "parallel": ALONE.to_row(),
        "source": source,
        **NO_SCORES,
    }


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Convert rows to an Arrow table in exactly `SCHEMA`."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
