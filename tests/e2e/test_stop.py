"""Drivers that are stopped midway: what is left, and that the same command goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.run import run
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of, write_prompts
from tests.e2e.services import REPOSITORY

WAIT_S = 1200


def start_driver(settings: dict[str, Any], cluster: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.e2e.engines", json.dumps(settings)]
    env = os.environ | {"RAY_ADDRESS": cluster}
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, start_new_session=True)


def wait_for_part(output: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not list(output.glob("data/part-*.parquet")):
        assert process.poll() is None, "the driver ended early"
        assert time.monotonic() < deadline, "no row appeared"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGKILL, marks=pytest.mark.variant),  # as in tests/chaos
        pytest.param(signal.SIGTERM, marks=pytest.mark.variant),
    ],
)
def test_a_driver_stopped_midway_goes_on_with_every_id_exactly_once(
    local_ray: str, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    settings: dict[str, Any] = {
        "prompts": write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(24)]),
        "output": str(output),
        "cache": {"policy": "none"},
        "replicas": 1,
        "part_rows": 2,
        "part_seconds": 0.5,
    }
    first = start_driver(settings, local_ray)
    wait_for_part(output, first)
    first.send_signal(number)
    code = first.wait(timeout=WAIT_S)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    committed = {row["sample_id"] for row in rows_of(output)}
    assert 0 < len(committed) < 24
    run(RunConfig(**settings), factory=obedient(), console=Console(file=io.StringIO()))
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


SUPERVISED = """
import sys
from pipeline.supervisor import supervised
from tests.e2e.engines import main
from tests.e2e.services import patient_start
with patient_start():
    sys.exit(supervised(main))
"""


def descendant(process: subprocess.Popen[str], part_of_command: str) -> psutil.Process:
    """The process below another one whose command holds a text."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for each in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if part_of_command in " ".join(each.cmdline()):
                    return each
        time.sleep(0.05)
    raise AssertionError(f"no process with {part_of_command} in its command")


@pytest.mark.variant
@pytest.mark.slow
@pytest.mark.parametrize(
    "service",
    ["raylet/raylet", pytest.param("runtime_env/agent/main.py", marks=pytest.mark.variant)],
)
def test_a_part_of_ray_that_is_killed_ends_the_run_with_code_3_and_it_goes_on(
    local_ray: str, tmp_path: Path, service: str
) -> None:
    output = tmp_path / "out"
    settings: dict[str, Any] = {
        "prompts": write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(24)]),
        "output": str(output),
        "cache": {"policy": "none"},
        "replicas": 1,
        "part_rows": 2,
        "part_seconds": 0.5,
    }
    command = [sys.executable, "-c", SUPERVISED, json.dumps(settings), "2.0", ""]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_part(output, process)
    descendant(process, service).kill()
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 3, said
    assert "Ray ended the driver" in said
    (manifest,) = output.glob("runs/*Z-??????.json")
    assert json.loads(manifest.read_text())["state"] == "error"
    committed = {row["sample_id"] for row in rows_of(output)}
    assert 0 < len(committed) < 24
    run(RunConfig(**settings), factory=obedient(), console=Console(file=io.StringIO()))
    rows = rows_of(output)
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["sample_id"] for row in rows}) == len(rows) == 24
