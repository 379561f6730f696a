"""Tables, the document that shows them, and the curves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.quality.document import benchmarks_md
from jobs.benchmarks.quality.document.plot import curves, draw, require_matplotlib
from jobs.benchmarks.quality.document.tables import HEADINGS, markdown, rows_of
from jobs.benchmarks.quality.points import OperatingPoint
from jobs.benchmarks.quality.records import ArmRecord, paper_of, summary
from pipeline.errors import UserError

EULER = "FlowMatchEulerDiscreteScheduler/3.0"


def record(arm: str, wanted: int, decibels: dict[str, list[float]], seconds: float) -> ArmRecord:
    made = ArmRecord(
        OperatingPoint(arm, wanted, None, "as it is"), right=[True, False], fit=[0.9, 0.8]
    )
    made.nfe, made.seconds, made.control_seconds = [wanted, wanted], [seconds] * 3, [10.0] * 3
    for reference, values in decibels.items():
        for value in values:
            made.add(reference, "psnr", value)
            made.add(reference, "ssim", value / 100)
    return made


def result() -> dict[str, Any]:
    uncached = record("uncached", 50, {"converged": [45.0, 47.0]}, 10.0)
    paper = record("sencache-paper", 25, {"uncached": [40.0, 44.0], "converged": [38.0, 42.0]}, 6.0)
    other = record("planned", 25, {"uncached": [50.0, 54.0], "converged": [38.0, 42.0]}, 5.0)
    absent = ArmRecord(OperatingPoint("nothing", 25, None, problem="it cannot run"))
    found = paper_of([other, paper], "sencache-paper", 25)
    arms = [summary(each, found, 50) for each in (paper, other, absent)]
    request = {"width": 64, "height": 64, "num_frames": 17, "num_inference_steps": 50}
    return {
        "model": "demo",
        "request": request | {"guidance_scale": 4.0},
        "split": "dev",
        "clips": 2,
        "prompts_hash": "0123",
        "calibration_hash": "4567",
        "seeds": [20_000, 20_001],
        "rows": 4,
        "lpips": "no LPIPS: not installed",
        "converged": {"scheduler": "Heun", "steps": 100},
        "samplers": {EULER: {"uncached": summary(uncached, None, 50), "arms": arms}},
    }


def test_numbers_of_an_arm() -> None:
    paper, planned, absent = result()["samplers"][EULER]["arms"]
    assert (paper["nfe_mean"], paper["nfe_p95"]) == (25, 25)
    assert planned["wall_ratio"] == pytest.approx(2.0)
    assert planned["wall_share"] == pytest.approx(1.0)
    assert (paper["right"], paper["fit"]) == pytest.approx((0.5, 0.85))
    difference = planned["to"]["uncached"]["psnr"]["against_paper"]
    assert (difference["mean"], difference["low"], difference["tie"]) == (10.0, 10.0, False)
    assert planned["to"]["converged"]["psnr"]["against_paper"]["tie"]
    assert planned["per_clip"]["uncached"] == {"psnr": [50.0, 54.0], "ssim": [0.5, 0.54]}
    assert planned["to"]["uncached"]["psnr"]["worst_decile"] == 50.0
    assert absent["problem"] == "it cannot run"


def test_rows_are_the_uncached_run_and_the_arms_that_ran() -> None:
    uncached, paper, planned = rows_of(result(), EULER)
    assert len(uncached) == len(paper) == len(HEADINGS)
    assert uncached[0] == "uncached"
    assert (uncached[3], uncached[7]) == ("", "46.0 ± 1.0")
    assert planned[:3] == ["planned 25", "25.0", "25.0"]
    assert planned[3:7] == ["52.0 ± 2.0", "50.0", "0.5200", "+10.0 ± 0.0"]
    assert planned[9:] == ["= +0.0 ± 0.0", "50%, 0.850", "2.00x", "100%"]
    assert paper[6] == ""


def test_markdown_has_a_line_per_row() -> None:
    lines = markdown(result()).splitlines()
    assert lines[0].startswith("**demo 64x64x17, FlowMatchEulerDiscreteScheduler/3.0, 50 steps")
    tables = [line for line in lines if line.startswith("| ")]
    assert len(tables) == 2 + 3
    assert {line.count("|") for line in tables} == {len(HEADINGS) + 1}


def test_the_document_shows_the_kept_result() -> None:
    kept = json.loads(benchmarks_md.KEPT.read_text())
    shown = benchmarks_md.DOCUMENT.read_text()
    assert benchmarks_md.replace_section(shown, benchmarks_md.section(kept)) == shown


def test_samplers_that_were_measured_apart_are_one_result() -> None:
    def part(sampler: str, **facts: Any) -> dict[str, Any]:
        conditions = {"command": f"quality --sampler {sampler}"}
        result = {"clips": 2, **facts, "samplers": {sampler: {}}}
        return {"conditions": conditions, "result": result}

    joined = benchmarks_md.joined([part("euler"), part("unipc")])
    assert list(joined["result"]["samplers"]) == ["euler", "unipc"]
    both = "quality --sampler euler && quality --sampler unipc"
    assert joined["conditions"]["command"] == both
    with pytest.raises(UserError, match="differ in clips"):
        benchmarks_md.joined([part("euler"), part("unipc", clips=3)])
    with pytest.raises(UserError, match="euler is in two"):
        benchmarks_md.joined([part("euler"), part("euler")])


def test_a_result_is_kept_and_shown(tmp_path: Path) -> None:
    shown, kept = tmp_path / "shown.md", tmp_path / "results" / "kept.json"
    shown.write_text(f"before\n{benchmarks_md.BEGIN}\nOLDER\n{benchmarks_md.END}\nafter\n")
    conditions = {"cpu": "a CPU", "gpu": "", "threads": 2, "date": "2026-11-25T00:00:00+00:00"}
    versions = {"versions": {"torch": "2", "diffusers": "0.42"}}
    command = {"command": "jobs/benchmark.py quality --json /a/b --quick --plot c"}
    written = {"conditions": conditions | versions | command, "result": result()}
    benchmarks_md.keep(written, kept, shown)
    stored = json.loads(kept.read_text())
    assert stored["result"] == written["result"]
    assert stored["conditions"]["command"] == "jobs/benchmark.py quality --quick"
    text = shown.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "OLDER" not in text
    assert "a CPU, 2 threads" in text
    assert "planned 25" in text
    benchmarks_md.keep(written, kept, shown)
    assert shown.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        benchmarks_md.BEGIN,
        f"{benchmarks_md.END}{benchmarks_md.BEGIN}",
        benchmarks_md.BEGIN * 2,
    ],
)
def test_a_document_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="needs one line"):
        benchmarks_md.replace_section(text, "new")


def test_curves_join_the_points_of_an_arm() -> None:
    measured = result()["samplers"][EULER]
    assert curves(measured, "uncached") == {
        "sencache-paper": [(25, 42.0, 40.0, 44.0)],
        "planned": [(25, 52.0, 50.0, 54.0)],
    }


def test_curves_are_drawn(tmp_path: Path) -> None:
    draw(result(), str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_plotting_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="needs matplotlib"):
        require_matplotlib()
