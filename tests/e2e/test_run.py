"""Whole runs on a private Ray cluster: the embedded model, and an engine made to misbehave."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import ray
from rich.console import Console

from jobs.generate import main
from pipeline import media
from pipeline.config import RunConfig
from pipeline.engine import EngineFactory
from pipeline.errors import UserError
from pipeline.request import SampleRequest
from pipeline.run import RunReport, run
from tests.e2e.engines import broken, obedient
from tests.e2e.services import REPOSITORY

PROMPTS = (
    "a red circle moving left on a black background",
    "In a still frame, a stop sign",
    "A tranquil tableau of alley, 8k — “golden hour” 🌆",
)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One cluster for the in-process runs: `run` keeps a caller's connection."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


def rows_of(output: Path) -> list[dict[str, Any]]:
    return ds.dataset(output / "data", format="parquet").to_table().to_pylist()


def write_prompts(path: Path, prompts: Sequence[str]) -> str:
    path.write_text("\n".join(prompts) + "\n")
    return str(path)


def quiet_run(**settings: Any) -> tuple[RunReport, str]:
    text = io.StringIO()
    config = RunConfig(**settings)
    return run(config, factory=obedient(), console=Console(file=text, width=200)), text.getvalue()


@pytest.mark.slow
def test_the_embedded_model_makes_a_dataset_and_a_second_run_makes_nothing(
    local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ["--prompts", write_prompts(tmp_path / "p.txt", PROMPTS), "--output", str(output)]
    flags += ["--sampling.num-inference-steps", "10"]
    assert main(flags) == 0
    rows = rows_of(output)
    assert Counter(row["status"] for row in rows) == {"ok": 3}
    assert {row["caption"] for row in rows} == set(PROMPTS)
    for row in rows:
        data = (output / row["video"]["path"]).read_bytes()
        frames = media.decode(data)
        assert frames.shape == (row["num_frames"], row["height"], row["width"], 3)
        assert len(data) == row["media_bytes"]
        assert media.read_row(data)["sample_id"] == row["sample_id"]
        cache = row["cache"]
        assert cache["nfe"] + cache["reused"] == len(cache["decisions"]) == 10
        assert cache["decisions"].count("C") == cache["nfe"]
    assert (output / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    (manifest,) = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    assert (manifest["state"], manifest["result"]["ok"]) == ("done", 3)
    capsys.readouterr()
    before = sorted(path.stat().st_mtime_ns for path in output.rglob("*.*"))
    assert main(flags) == 0
    assert "Everything is done already" in capsys.readouterr().out
    assert sorted(path.stat().st_mtime_ns for path in output.rglob("*.*")) == before


@pytest.mark.slow
def test_texts_that_are_encoded_apart_make_the_same_dataset(
    local_ray: None, tmp_path: Path
) -> None:
    flags = ["--prompts", write_prompts(tmp_path / "p.txt", PROMPTS), "--batch-rows", "2"]
    flags += ["--sampling.num-inference-steps", "4", "--cache.policy", "none"]
    made = {}
    for text in ("inline", "separate"):
        output = tmp_path / text
        assert main([*flags, "--output", str(output), "--stages.text", text]) == 0
        made[text] = {
            row["sample_id"]: media.decode((output / row["video"]["path"]).read_bytes())
            for row in rows_of(output)
        }
    assert made["inline"].keys() == made["separate"].keys()
    assert len(made["inline"]) == len(PROMPTS)
    for sample_id, frames in made["inline"].items():
        assert np.array_equal(frames, made["separate"][sample_id])


@pytest.mark.slow
def test_a_sample_that_kills_its_process_ends_as_one_failed_row(
    local_ray: None, tmp_path: Path
) -> None:
    prompts = [*(f"clip {n}" for n in range(6)), "die", *(f"clip {n}" for n in range(6, 12))]
    report, _ = quiet_run(
        prompts=write_prompts(tmp_path / "p.txt", prompts),
        output=str(tmp_path / "out"),
        cache={"policy": "none"},
        batch_rows=4,
        max_attempts=3,
    )
    rows = rows_of(tmp_path / "out")
    assert sorted(row["caption"] for row in rows) == sorted(prompts)
    assert Counter(row["status"] for row in rows) == {"ok": 12, "failed": 1}
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert (failed["caption"], failed["error_type"], failed["attempts"]) == ("die", "WorkerDied", 3)
    assert "death of its process" in failed["error_message"]
    assert report.failed_fraction == pytest.approx(1 / 13)
    # Its batch went down with it once: no neighbour was begun more than twice.
    assert max(row["attempts"] for row in rows if row["status"] == "ok") <= 2


@pytest.mark.slow
def test_an_actor_with_nothing_left_to_do_closes_its_engine(
    local_ray: None, tmp_path: Path
) -> None:
    config = RunConfig.model_validate(
        {
            "prompts": write_prompts(tmp_path / "p.txt", ["one", "two"]),
            "output": str(tmp_path / "out"),
            "cache": {"policy": "none"},
        }
    )
    closed = tmp_path / "closed"
    run(config, factory=obedient(closed=str(closed)), console=Console(file=io.StringIO()))
    deadline = time.monotonic() + 120
    while not closed.exists():  # the driver does not wait for its actors
        assert time.monotonic() < deadline, "no engine was closed"
        time.sleep(0.05)


@pytest.mark.slow
def test_bad_rows_become_rows_and_nothing_else_is_lost(local_ray: None, tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "fine"},
        {"prompt": ""},
        {"prompt": 7},
        {"prompt": "huge", "width": 10**9},
        {"prompt": "odd", "num_frames": 16},
        {"prompt": "fine"},
        {"prompt": "raise"},
    ]
    source.write_text("\n".join(json.dumps(line) for line in lines) + "\nnot json\n")
    settings: dict[str, Any] = {
        "prompts": str(source),
        "output": str(tmp_path / "out"),
        "cache": {"policy": "none"},
        "max_attempts": 2,
    }
    report, text = quiet_run(**settings)
    rows = rows_of(tmp_path / "out")
    assert Counter(row["status"] for row in rows) == {"ok": 1, "failed": 1, "rejected": 5}
    assert "1 duplicates" in text
    messages = {row["caption"]: row["error_message"] for row in rows}
    assert "16384" in messages["huge"]
    assert "use 13 or 17" in messages["odd"]
    assert messages["raise"] == "cannot draw this"
    assert all(row["error_message"] and row["error_type"] for row in rows if row["status"] != "ok")
    assert report.failed_fraction == pytest.approx(0.5)
    again, _ = quiet_run(**settings)
    assert (again.tally.made, again.tally.rejected, len(rows_of(tmp_path / "out"))) == (0, 0, 7)
    assert again.failed_fraction == pytest.approx(0.5)
    retried, _ = quiet_run(**settings, retry_failed=True)
    assert (retried.tally.ok, retried.tally.failed) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "factory", "message"),
    [
        ("misfit", obedient(), "the profile does not fit this model"),
        ("fine", broken, "cannot load demo: the weights are torn"),
    ],
)
def test_a_fault_of_the_settings_inside_a_worker_is_one_line_and_the_run_says_error(
    local_ray: None, tmp_path: Path, prompt: str, factory: EngineFactory, message: str
) -> None:
    config = RunConfig.model_validate(
        {
            "prompts": write_prompts(tmp_path / "p.txt", [prompt]),
            "output": str(tmp_path / "out"),
            "cache": {"policy": "none"},
        }
    )
    with pytest.raises(UserError) as stopped:
        run(config, factory=factory, console=Console(file=io.StringIO()))
    assert str(stopped.value) == message
    (manifest,) = [json.loads(p.read_text()) for p in (tmp_path / "out" / "runs").glob("*Z-*.json")]
    assert manifest["state"] == "error"
    assert message in manifest["error"]


def start_driver(settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.e2e.engines", json.dumps(settings)]
    return subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)


def wait_for_part(output: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not list(output.glob("data/part-*.parquet")):
        assert process.poll() is None, "the driver ended early"
        assert time.monotonic() < deadline, "no row appeared"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_stopped_midway_goes_on_with_every_id_exactly_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    settings: dict[str, Any] = {
        "prompts": write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(24)]),
        "output": str(output),
        "cache": {"policy": "none"},
        "part_rows": 2,
        "part_seconds": 0.5,
    }
    first = start_driver(settings)
    wait_for_part(output, first)
    first.send_signal(number)
    code = first.wait(timeout=120)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    committed = {row["sample_id"] for row in rows_of(output)}
    assert 0 < len(committed) < 24
    second = start_driver(settings)
    assert second.wait(timeout=300) == 0
    rows = rows_of(output)
    assert len({row["sample_id"] for row in rows}) == len(rows) == 24
    assert committed < {row["sample_id"] for row in rows}
    for row in rows:
        assert row["status"] == "ok"
        assert len((output / row["video"]["path"]).read_bytes()) == row["media_bytes"]
    states = Counter(
        json.loads(path.read_text())["state"] for path in output.glob("runs/*Z-??????.json")
    )
    ended = "running" if number == signal.SIGKILL else "interrupted"
    assert states == {ended: 1, "done": 1}


def test_requests_survive_the_way_to_the_worker() -> None:
    request = SampleRequest("p “🌆”", "n", "demo", "r", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 2**40)
    assert SampleRequest.from_json(request.to_json()) == request
    assert dataclasses.replace(request, source_key="x:1").sample_id == request.sample_id
