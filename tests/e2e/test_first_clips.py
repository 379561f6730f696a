"""A run that measures its own profile, killed while it makes its first clips."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.models.resolve import resolve_model
from pipeline.requests.packing import FEWEST_FIRST
from pipeline.run import run
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of, write_prompts
from tests.e2e.services import REPOSITORY

WAIT_S = 1200


def settings_of(prompts: str, output: Path) -> dict[str, Any]:
    return {
        "prompts": prompts,
        "output": str(output),
        "model": "wan2.1-t2v-1.3b",  # no profile is shipped for it
        "cache": {"quality": "balanced"},
        "sampling": {"num_inference_steps": 20},
        "control_fraction": 0.3,
        "replicas": 2,
        "part_rows": 1,
        "part_seconds": 0.1,
    }


def kill_midway(settings: dict[str, Any], after_s: float, cluster: str) -> None:
    # So slow that the run is not over before the signal comes, however busy the machine is.
    command = [sys.executable, "-m", "tests.e2e.engines", json.dumps(settings), "1.5", ""]
    env = os.environ | {"RAY_ADDRESS": cluster}
    driver = subprocess.Popen(command, cwd=REPOSITORY, env=env, start_new_session=True)
    folder = Path(settings["output"]) / "profiles" / "own"
    before = len(list(folder.glob("*/*.json")))
    deadline = time.monotonic() + WAIT_S
    while len(list(folder.glob("*/*.json"))) <= before and not list(folder.glob("*.json")):
        assert time.monotonic() < deadline, "no clip was measured"
        if driver.poll() is not None:  # it made the few that were left
            return
        time.sleep(0.02)
    time.sleep(after_s)
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=WAIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.variant)])
def test_a_run_killed_in_its_first_clips_ends_with_one_profile_and_the_same_ids(
    local_ray: str, tmp_path: Path, kills: int
) -> None:
    prompts = write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(16)])
    whole, torn = settings_of(prompts, tmp_path / "whole"), settings_of(prompts, tmp_path / "torn")
    quiet = Console(file=io.StringIO())
    run(RunConfig(**whole | {"replicas": 1}), factory=obedient(), console=quiet)
    chance = random.Random(5)
    for _ in range(kills):
        kill_midway(torn, chance.uniform(0.0, 0.5), local_ray)
    run(RunConfig(**torn), factory=obedient(), console=quiet)
    rows = {name: rows_of(tmp_path / name) for name in ("whole", "torn")}
    ids = {name: sorted(row["sample_id"] for row in found) for name, found in rows.items()}
    assert ids["whole"] == ids["torn"]
    assert len(set(ids["torn"])) == len(ids["torn"])
    assert all(row["status"] == "ok" for row in rows["torn"])
    profiles = [sorted(path.name for path in (tmp_path / n).glob("profiles/*.json")) for n in rows]
    assert profiles[0] == profiles[1]
    assert len(profiles[0]) == 1
    manifests = sorted((tmp_path / "torn" / "runs").glob("*.json"))
    last = [json.loads(m.read_text()) for m in manifests if not m.stem.endswith(".attempts")][-1]
    assert last["cache"]["profile"] + ".json" == profiles[0][0]
    assert (last["cache"]["quality"], last["cache"]["profile_source"]) == ("balanced", "own")
    uncached = [r for r in rows["torn"] if not r["control_of"] and " none " in r["settings"]]
    assert len(uncached) == FEWEST_FIRST
    assert len({r["caption"] for r in rows["torn"]}) == 16


@pytest.mark.variant
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cogvideox-2b", "wan2.1-t2v-1.3b", "ltx-video", "hunyuanvideo"])
def test_every_family_is_cached_by_its_first_command(
    local_ray: str, tmp_path: Path, tiny_model: Callable[[str], Path], name: str
) -> None:
    folder = tiny_model(name)
    size = resolve_model(name, str(folder)).spec.sizes.multiple
    prompts = write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(10)])
    settings: dict[str, Any] = {
        "prompts": prompts,
        "output": str(tmp_path / "out"),
        "model": name,
        "model_path": str(folder),
        "device": "cpu",
        "replicas": 1,
        "sampling": {
            "num_inference_steps": 12,
            "width": 2 * size,
            "height": 2 * size,
            "num_frames": 9,
            "max_sequence_length": 24,  # of the tiny CogVideoX
        },
        "report": False,
    }
    said = io.StringIO()
    run(RunConfig(**settings), console=Console(file=said, width=300))
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok"] * 10
    planned = [row for row in rows if row["cache"]["policy"] == "planned"]
    assert len(planned) == 6
    assert {row["cache"]["profile_source"] for row in planned} == {"own"}
    (nfe,) = {row["cache"]["nfe"] for row in planned}
    (promised,) = {row["cache"]["promised_error"] for row in planned}
    assert promised <= RunConfig(**settings).cache.max_error or nfe == 12
    assert "the run makes 4 clips without a cache first" in said.getvalue()
    assert f"planned: {nfe} of 12 steps computed (NFE), promised error" in said.getvalue()
