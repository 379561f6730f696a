"""The file that a measurement goes on from, its tables, and the command in a tiny setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmark import main
from jobs.benchmarks.rivals.measure import Kept
from jobs.benchmarks.rivals.tables import invisible_at, leaders, rows_of
from pipeline.errors import UserError

TINY = "rivals --device cpu --clips 2 --batch-rows 1 --calibration-clips 1 --steps 8 --nfe 6"


def line(arm: str, wanted: int, batch: int, psnr: list[float], jod: list[float]) -> dict[str, Any]:
    key = {"sampler": "Euler/3.0", "arm": arm, "wanted": wanted, "batch": batch, "setting": ""}
    return key | {"nfe": [float(wanted)] * len(psnr), "psnr": psnr, "jod": jod}


def result(*lines: dict[str, Any]) -> dict[str, Any]:
    return {
        "points": [13, 25, 21],
        "measures": ["jod", "psnr"],
        "samplers": {"Euler/3.0": list(lines)},
    }


def test_rows_lead_by_the_paired_difference_over_the_clips_that_both_have() -> None:
    found = result(
        line("planned", 21, 1, [70.0], [10.0]),  # of the second batch, though it comes first
        line("planned", 21, 0, [50.0, 60.0], [9.95, 9.95]),
        line("fewer-steps", 21, 0, [40.0, 50.0], [9.0, 9.5]),
        line("fewer-steps", 25, 0, [80.0, 80.0], [10.0, 10.0]),
    )
    alone, planned, steps = rows_of(found, "Euler/3.0")
    assert alone[:2] == ["25.0", "fewer-steps"]
    assert alone[5] == ""  # plans have no clip there
    assert planned[:5] == [
        "21.0",
        "planned",
        "3",
        "60.0 ± 10.0",
        "50.0",
    ]  # 1 of 27 draws is the worst clip alone
    assert steps[5] == "+10.0 ± 0.0"
    assert steps[6:8] == ["9.25 ± 0.25", "9.00"]
    assert leaders(found, "Euler/3.0") == {25: "fewer-steps", 21: "planned"}


def test_invisible_at_is_the_last_point_before_the_first_that_can_be_seen() -> None:
    found = result(
        line("planned", 25, 0, [60.0] * 2, [10.0, 9.99]),
        line("planned", 21, 0, [60.0] * 2, [10.0, 9.82]),
        line("planned", 13, 0, [60.0] * 2, [9.8, 9.8]),
        line("uniform", 25, 0, [60.0] * 2, [9.8, 9.8]),
        line("uniform", 21, 0, [60.0] * 2, [10.0, 10.0]),  # by chance: 25 can be seen
    )
    assert invisible_at(found, "Euler/3.0", "planned", worst=False) == 21
    assert invisible_at(found, "Euler/3.0", "planned", worst=True) == 25
    assert invisible_at(found, "Euler/3.0", "uniform", worst=False) is None


def test_a_half_line_is_measured_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    kept = Kept.opened(path, {"steps": 50})
    kept.add(line("planned", 21, 0, [50.0], [10.0]))
    with path.open("a") as file:
        file.write('{"sampler": "Euler/3.0", "arm": "pl')
    again = Kept.opened(path, {"steps": 50})
    assert again.has("Euler/3.0", "planned", 21, 0)
    assert not again.has("Euler/3.0", "planned", 21, 1)
    again.add(line("planned", 21, 1, [51.0], [10.0]))
    assert len(Kept.opened(path, {"steps": 50}).lines) == 2
    with pytest.raises(UserError, match="measured with steps 50, not 30"):
        Kept.opened(path, {"steps": 30})


@pytest.mark.slow
def test_the_command_goes_on_from_its_file(tmp_path: Path) -> None:
    out, partial = tmp_path / "out.json", tmp_path / "kept.jsonl"
    places = ["--partial", str(partial), "--cache-dir", str(tmp_path), "--json", str(out)]
    arms = ["--sampler", "euler", "--arms", "dpcache", "uniform-taylor"]
    assert main([*TINY.split(), *arms, *places, "--batches", "1"]) == 0
    assert len(partial.read_text().splitlines()) == 1 + 2
    assert main([*TINY.split(), *arms, *places]) == 0
    before = partial.read_text().splitlines()
    assert len(before) == 1 + 2 * 2
    partial.write_text("\n".join(before[:-1]) + "\n")
    assert main([*TINY.split(), *arms, *places]) == 0
    after = [json.loads(each) for each in partial.read_text().splitlines()]
    assert after[:-1] == [json.loads(each) for each in before[:-1]]
    lost, found = json.loads(before[-1]), after[-1]
    assert (found["nfe"], found["arm"], found["batch"]) == ([6.0], lost["arm"], lost["batch"])
    assert found["psnr"] == pytest.approx(lost["psnr"], abs=1e-2)
    measured = json.loads(out.read_text())["result"]
    assert measured["samplers"]["FlowMatchEulerDiscreteScheduler/3.0"] == after[1:]


def test_invisible_at_is_the_arms_own_number_of_evaluations() -> None:
    missed = line("sencache-paper", 21, 0, [60.0] * 2, [10.0, 9.99]) | {"nfe": [23.0, 24.0]}
    found = result(line("sencache-paper", 25, 0, [60.0] * 2, [10.0, 9.99]), missed)
    assert invisible_at(found, "Euler/3.0", "sencache-paper", worst=False) == 24
