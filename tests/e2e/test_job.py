"""`ray job submit` against a cluster started here, with its output on an S3 server."""

from __future__ import annotations

import io

import boto3
import pyarrow.parquet as pq
import pytest
from datasets import Features, Video

from pipeline import media
from tests.e2e.services import RayCluster

BUCKET = "clips"
PROMPTS = 3


@pytest.mark.slow
def test_a_submitted_job_writes_a_dataset_to_s3_and_resumes(
    ray_cluster: RayCluster, s3_env: dict[str, str]
) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_env["AWS_ENDPOINT_URL"],
        region_name=s3_env["AWS_DEFAULT_REGION"],
        aws_access_key_id=s3_env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3_env["AWS_SECRET_ACCESS_KEY"],
    )
    s3.create_bucket(Bucket=BUCKET)
    entrypoint = (
        f"python jobs/generate.py --config jobs/configs/demo.yaml --limit {PROMPTS} "
        f"--output s3://{BUCKET}/demo --sampling.num-inference-steps 8 --replicas 1"
    )
    ray_cluster.submit(entrypoint, s3_env)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    parts = [key for key in keys if key.startswith("demo/data/part-")]
    tables = [pq.read_table(io.BytesIO(get(s3, key))) for key in parts]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["status"] for row in rows] == ["ok"] * PROMPTS
    assert len({row["sample_id"] for row in rows}) == PROMPTS
    for row in rows:
        data = get(s3, "demo/" + row["video"]["path"])
        assert len(data) == row["media_bytes"]
        assert media.decode(data).shape == (17, 64, 64, 3)
    assert Features.from_arrow_schema(tables[0].schema)["video"] == Video()
    assert "demo/contact_sheet.png" in keys

    text = ray_cluster.submit(entrypoint, s3_env)
    assert "Everything is done already" in text
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == keys


def get(s3: object, key: str) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()  # type: ignore[attr-defined]
