"""`ray job submit` and `ray job stop` as the README says them: a head that takes no work and a
worker node, each with processes of its own and token authentication, output on an S3 server, and
Prometheus reading all of it."""

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

from jobs.generate import main as generate
from pipeline.dataset import mp4
from pipeline.report.document import Report
from tests.e2e.services import REPOSITORY, RayCluster, free_port, prometheus, query, ray_nodes
from tests.pipeline.report.series import against_report
from tests.system_tools import system_tool

BUCKET = "clips"
CLIPS, STEPS = 10, 6
STOPPED, FINISHED = "20260101T000000Z-stopped", "20260101T000001Z-finished"
COUNTED = "20260101T000002Z-counted"
SCRAPE_TIMEOUT_S = 300
ENTRYPOINT = (
    f"python jobs/generate.py --config jobs/configs/demo.yaml --output s3://{BUCKET}/stopped "
    f"--limit {CLIPS} --sampling.num-inference-steps {STEPS} --cache.epsilon 0.1 "
    "--replicas 1 --batch-rows 1 --part-rows 1"
)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    own = [item.name for item in request.session.items if item.path == request.path]
    read = any("prometheus" in name for name in own)
    token = secrets.token_hex(16)
    with ray_nodes(cpus=(0, 4), token=token, metrics_s=1 if read else 10) as started:
        yield started


class Output:
    """What runs have written into a prefix so far."""

    def __init__(self, env: dict[str, str], prefix: str) -> None:
        self._prefix = prefix
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_DEFAULT_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )
        self._s3.create_bucket(Bucket=BUCKET)  # or finds it made

    def keys(self, under: str = "") -> list[str]:
        found = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self._prefix}/{under}")
        return [item["Key"].removeprefix(f"{self._prefix}/") for item in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=BUCKET, Key=f"{self._prefix}/{key}")["Body"].read()

    def rows(self) -> list[dict[str, Any]]:
        tables = [pq.read_table(io.BytesIO(self.read(key))) for key in self.keys("data/part-")]
        return [row for table in tables for row in table.to_pylist()]

    def manifest(self, run_id: str) -> dict[str, Any]:
        return json.loads(self.read(f"runs/{run_id}.json"))


@pytest.mark.slow
def test_a_stopped_job_submitted_again_ends_exactly_once(
    cluster: RayCluster,
    s3_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output(s3_env, "stopped")
    begun = cluster.submit(ENTRYPOINT, s3_env, "--no-wait", "--submission-id", STOPPED)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    while not output.keys("data/"):
        assert cluster.status(STOPPED) in ("PENDING", "RUNNING"), cluster.logs(STOPPED)
        time.sleep(0.2)
    ended = cluster.stop(STOPPED)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"Job '{STOPPED}' was stopped" in ended.stdout
    assert "it goes on" in cluster.logs(STOPPED)
    before = output.rows()
    assert 0 < len(before) < CLIPS
    manifest = output.manifest(STOPPED)
    assert manifest["state"] == "interrupted"  # by itself, before the grace was over
    assert manifest["result"]["ok"] == len(before)

    finished = cluster.submit(ENTRYPOINT, s3_env, "--submission-id", FINISHED)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = output.rows()
    assert Counter(row["status"] for row in rows) == {"ok": CLIPS}
    assert len({row["sample_id"] for row in rows}) == CLIPS
    assert [sealed(row) for row in rows[: len(before)]] == [sealed(row) for row in before]
    # A clip that was stored before its row came is taken over, with the run that made it.
    assert FINISHED in {row["run_id"] for row in rows[len(before) :]} <= {STOPPED, FINISHED}
    for row in rows:
        data = output.read(row["video"]["path"])
        assert len(data) == row["media_bytes"]
    assert mp4.decode(data).shape == (17, 64, 64, 3)
    (part, *_) = output.keys("data/part-")
    schema = pq.read_schema(io.BytesIO(output.read(part)))
    assert Features.from_arrow_schema(schema)["video"] == Video()
    assert output.keys("contact_sheet.png")

    for name, value in s3_env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(REPOSITORY)
    assert generate([*ENTRYPOINT.split()[2:], "--dry-run"]) == 0  # needs no cluster
    assert f"0 clips to make · {CLIPS} done before" in capsys.readouterr().out
    assert [sealed(row) for row in output.rows()] == [sealed(row) for row in rows]


@pytest.mark.variant
@pytest.mark.slow
def test_prometheus_says_of_a_run_what_its_report_says(
    cluster: RayCluster, s3_env: dict[str, str], tmp_path: Path
) -> None:
    output = Output(s3_env, "counted")
    prompts = [{"prompt": "a red circle moving left"}, {"prompt": "a blue square, still"}]
    lines = [*prompts, {"prompt": "of a size that no model here makes", "width": 17}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = (
        f"python jobs/generate.py --prompts {tmp_path}/p.jsonl --output s3://{BUCKET}/counted "
        "--sampling.num-inference-steps 6 --cache.budget 0.5 --control-fraction 1 "
        "--replicas 1 --gpu-price-per-hour 3.6"
    )
    with prometheus(cluster.metrics, tmp_path, system_tool("prometheus")) as address:
        done = cluster.submit(command, s3_env, "--submission-id", COUNTED)
        assert done.returncode == 0, done.stdout + done.stderr
        report = Report.model_validate_json(output.read("report/report.json"))
        totals = report.totals
        assert (totals.ok, totals.controls, totals.rejected) == (2, 2, 1)
        assert 0 < totals.nfe < totals.steps
        assert report.dollars is not None

        def value(name: str, **labels: str) -> float:
            return latest(address, name, labels)

        deadline = time.monotonic() + SCRAPE_TIMEOUT_S
        while against_report(report, value) and time.monotonic() < deadline:
            time.sleep(1)  # until the last scrape of the driver has come
        assert against_report(report, value) == {}
        assert value("sencache_samples_left") == 0
        # Workers end with the run and take their last second with them.
        (_, spent), *more = query(address, 'sum(ray_sencache_device_seconds_total{spent="clips"})')
        assert spent > 0 == len(more)


def latest(address: str, name: str, labels: dict[str, str]) -> float:
    """What Prometheus last knew of a series of the run's driver; 0 where it was never counted."""
    chosen = ", ".join(f'{label}="{text}"' for label, text in labels.items())
    # A driver's series are those of the run that it announced.
    run = f'last_over_time(ray_sencache_run{{run_id="{COUNTED}"}}[10m])'
    series = f"last_over_time(ray_{name}{{{chosen}}}[10m])"
    found = query(address, f"{series} and on (SessionName, WorkerId) {run}")
    assert len(found) <= 1, (name, labels, found)
    return found[0][1] if found else 0.0


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
