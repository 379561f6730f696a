"""`ray job submit` as the README says it: a head that takes no work and two workers, each a process
of its own with token authentication, output on an S3 server, and Prometheus reading all of it."""

from __future__ import annotations

import io
import json
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from datasets import Features, Video

from pipeline import media
from tests.e2e.services import REPOSITORY, RayCluster, free_port, prometheus, query, ray_nodes
from tests.system_tools import system_tool

BUCKET, PREFIX = "clips", "demo"
CLIPS, STEPS = 12, 30
STOPPED, FINISHED = "20260101T000000Z-stopped", "20260101T000001Z-finished"
ENTRYPOINT = (
    f"python jobs/generate.py --config jobs/configs/demo.yaml --output s3://{BUCKET}/{PREFIX} "
    f"--limit {CLIPS} --sampling.num-inference-steps {STEPS} --cache.epsilon 0.1 "
    "--replicas 2 --batch-rows 1 --part-rows 1 --gpu-price-per-hour 3.6"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_nodes(cpus=(0, 4, 4), token=secrets.token_hex(16)) as started:
        yield started


class Bucket:
    """What the run has written so far."""

    def __init__(self, env: dict[str, str]) -> None:
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_DEFAULT_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )
        self._s3.create_bucket(Bucket=BUCKET)

    def keys(self, under: str = "") -> list[str]:
        found = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{under}")
        return [item["Key"] for item in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def rows(self) -> list[dict[str, Any]]:
        tables = [pq.read_table(io.BytesIO(self.read(key))) for key in self.keys("data/part-")]
        return [row for table in tables for row in table.to_pylist()]

    def manifest(self, run_id: str) -> dict[str, Any]:
        return json.loads(self.read(f"{PREFIX}/runs/{run_id}.json"))


@pytest.mark.slow
def test_a_stopped_job_submitted_again_ends_exactly_once_and_prometheus_saw_it(
    cluster: RayCluster, s3_env: dict[str, str], tmp_path: Path
) -> None:
    binary = system_tool("prometheus")
    bucket = Bucket(s3_env)

    with prometheus(cluster.metrics, tmp_path, binary) as address:
        begun = cluster.submit(ENTRYPOINT, s3_env, "--no-wait", "--submission-id", STOPPED)
        assert begun.returncode == 0, begun.stdout + begun.stderr
        while not bucket.keys("data/"):
            assert cluster.status(STOPPED) in ("PENDING", "RUNNING"), cluster.logs(STOPPED)
            time.sleep(0.2)
        cluster.stop(STOPPED)
        assert "it goes on" in cluster.logs(STOPPED)
        before = bucket.rows()
        assert 0 < len(before) < CLIPS
        manifest = bucket.manifest(STOPPED)
        assert manifest["state"] == "interrupted"  # by itself, before the grace was over
        assert manifest["result"]["ok"] == len(before)

        finished = cluster.submit(ENTRYPOINT, s3_env, "--submission-id", FINISHED)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        rows = bucket.rows()
        assert Counter(row["status"] for row in rows) == {"ok": CLIPS}
        assert len({row["sample_id"] for row in rows}) == CLIPS
        assert [sealed(row) for row in rows[: len(before)]] == [sealed(row) for row in before]
        own = [row for row in rows if row["run_id"] == FINISHED]
        assert len(own) == CLIPS - len(before)
        for row in rows:
            data = bucket.read(f"{PREFIX}/{row['video']['path']}")
            assert len(data) == row["media_bytes"]
        assert media.decode(data).shape == (17, 64, 64, 3)
        (part, *_) = bucket.keys("data/part-")
        schema = pq.read_schema(io.BytesIO(bucket.read(part)))
        assert Features.from_arrow_schema(schema)["video"] == Video()
        assert bucket.keys("contact_sheet.png")
        check_series(address, own)

    planned = cluster.submit(f"{ENTRYPOINT} --dry-run", s3_env)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert f"0 clips to make · {CLIPS} done before" in planned.stdout
    assert [sealed(row) for row in bucket.rows()] == [sealed(row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("healthy", [True, False])
def test_the_health_check_of_the_image_asks_the_nodes_agent(
    cluster: RayCluster, healthy: bool
) -> None:
    port = cluster.agent if healthy else free_port()
    done = subprocess.run(
        [REPOSITORY / "infra/docker/healthcheck.sh"],
        env=cluster.env | {"RAY_AGENT_PORT": str(port)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == healthy, done.stderr


def sealed(row: dict[str, Any]) -> tuple[str, ...]:
    """A row by what must not change once it is written."""
    return tuple(row[name] for name in ("sample_id", "run_id", "media_sha256"))


def check_series(address: str, rows: list[dict[str, Any]]) -> None:
    """What Prometheus scraped is what the rows of the finished run say."""

    def value(series: str) -> float:
        # A driver's series are those of the run that it announced.
        run = f'last_over_time(ray_sencache_run{{run_id="{FINISHED}"}}[10m])'
        found = query(address, f"{series} and on (SessionName, WorkerId) {run}")
        assert len(found) == 1, (series, found)
        return found[0][1]

    nfe = sum(row["cache"]["nfe"] for row in rows)
    device_s = sum(row["gpu_s"] for row in rows)
    assert value('ray_sencache_samples_total{status="ok"}') == len(rows)
    assert value("last_over_time(ray_sencache_samples_left[10m])") == 0
    assert value('ray_sencache_steps_total{verdict="computed"}') == nfe
    assert value('ray_sencache_steps_total{verdict="reused"}') == STEPS * len(rows) - nfe
    video_s = sum(row["duration_s"] for row in rows)
    assert value("ray_sencache_clip_seconds_total") == pytest.approx(video_s)
    assert value("ray_sencache_row_device_seconds_total") == pytest.approx(device_s)
    assert value("ray_sencache_cost_dollars_total") == pytest.approx(device_s / 1000)
    # Workers end with the run and take their last second with them.
    (_, spent), *more = query(address, 'sum(ray_sencache_device_seconds_total{spent="clips"})')
    assert spent > 0 == len(more)
