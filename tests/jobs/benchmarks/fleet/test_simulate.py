"""The command: what it prints agrees with itself, and impossible fleets are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmark import main

SMALL = ["simulate", "--gpus", "64", "--samples", "2000", "--price", "2"]


def test_what_comes_out_follows_from_what_goes_in(tmp_path: Path) -> None:
    assert main([*SMALL, "--json", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())["result"]
    assert all(figure["source"] for figure in result["figures"].values())
    assert {run["ranks"] for run in result["runs"]} == {1, 2, 4, 8}
    for run in result["runs"]:
        assert run["clips_per_s"] == pytest.approx(2000 / run["days"] / 86400)
        assert 0 < run["efficiency"] <= 1
        assert run["lost"] + run["loading"] + run["idle"] < 1
        assert run["dollars_per_1000_clips"] == pytest.approx(run["dollars"] / 2)
        assert min(run["full_at_gpus"], key=run["full_at_gpus"].get) == "driver"
    none, paper, planned = [r for r in result["runs"] if r["model"].endswith("1.3b")]
    assert none["dollars"] > paper["dollars"] > planned["dollars"]


def test_larger_tasks_spare_the_driver(tmp_path: Path) -> None:
    busy = []
    for batches in ("1", "16"):
        path = tmp_path / f"{batches}.json"
        assert main([*SMALL, "--batches-per-task", batches, "--json", str(path)]) == 0
        run = json.loads(path.read_text())["result"]["runs"][2]
        busy.append(run["full_at_gpus"]["driver"])
    assert busy[1] / busy[0] == pytest.approx((15 + 5) / (15 / 16 + 5))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gpus", "4"], "at least 8"),
        (["--gpu", "B7"], "should be one of H100"),
        (["--gpu", "L40S"], "no list price of a L40S"),
    ],
)
def test_an_impossible_fleet_is_one_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SMALL[:-2] if "L40S" in flags else SMALL
    assert main([*given, *flags]) == 2
    assert words in capsys.readouterr().err
