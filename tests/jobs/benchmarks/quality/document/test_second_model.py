"""The table of a second model: its cells, its order of arms, and that the document shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.benchmarks.quality.document import benchmarks_md, second_model

CONDITIONS = {
    "cpu": "a CPU",
    "gpu": "",
    "threads": 1,
    "date": "2026-11-25T00:00:00+00:00",
    "versions": {"torch": "2", "diffusers": "0.42"},
    "command": "jobs/benchmark.py quality --model-path /a/b --profile /c --nfe 21",
}


def arm(name: str, point: int, mean: float, worst: float) -> dict[str, Any]:
    psnr = {"mean": mean, "worst_decile": worst}
    return {"arm": name, "wanted_nfe": point, "to": {"uncached": {"psnr": psnr}}}


def written(arms: list[dict[str, Any]], steps: int, shift: str, profile: str) -> dict[str, Any]:
    result = {
        "request": {"num_inference_steps": steps},
        "profile": profile,
        "points": sorted({each["wanted_nfe"] for each in arms}, reverse=True),
        "clips": 32,
        "split": "held-out",
        "prompts_hash": "0123",
        "calibration_hash": "4567",
        "seeds": [30_000],
        "rows": 4,
        "samplers": {f"Euler/{shift}": {"arms": arms}},
    }
    return {"conditions": CONDITIONS, "result": result}


BASE = written(
    [arm("planned", 21, 53.6, 44.0), arm("paper", 21, 37.9, 30.0), arm("sea", 21, 45.5, 40.0)],
    50,
    "3.0",
    "",
)
OTHER = written([arm("planned", 13, 50.0, 41.0)], 30, "5.0", "abcd")
ABSENT = written([{"arm": "paper", "wanted_nfe": 13, "problem": "it cannot run"}], 30, "3.0", "a")


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_rows_name_the_schedule_the_profile_and_the_lead() -> None:
    head, _, base, other, absent = cells(second_model.section([BASE, OTHER, ABSENT]))
    assert head[4:] == ["paper", "sea", "planned", "planned over the next"]
    assert base == ["Euler, 50, 3", "own", "32", "21", "37.9 / 30.0", "45.5 / 40.0", "53.6 / 44.0",
                    "+8.1 (sea)"]  # fmt: skip
    assert other[:4] == ["Euler, 30, 5", "of 50 steps, shift 3", "32", "13"]
    assert other[4:] == ["–", "–", "50.0 / 41.0", "–"]
    assert absent[4:] == ["–"] * 4


def test_results_are_kept_without_the_places_of_a_machine(tmp_path: Path) -> None:
    shown, kept = tmp_path / "shown.md", tmp_path / "results" / "kept.json"
    shown.write_text(f"before\n{second_model.BEGIN}\nOLDER\n{second_model.END}\nafter\n")
    second_model.keep([BASE, OTHER], kept, shown)
    stored = json.loads(kept.read_text())
    assert [each["result"] for each in stored] == [BASE["result"], OTHER["result"]]
    assert stored[0]["conditions"]["command"] == "jobs/benchmark.py quality --nfe 21"
    assert "OLDER" not in shown.read_text()
    assert "a CPU, 1 threads" in shown.read_text()


def test_the_document_shows_the_kept_results() -> None:
    kept = json.loads(second_model.KEPT.read_text())
    shown = benchmarks_md.DOCUMENT.read_text()
    section = second_model.section(kept)
    replaced = benchmarks_md.replace_section(shown, section, second_model.BEGIN, second_model.END)
    assert replaced == shown
