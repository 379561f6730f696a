"""The first minutes on a GPU: the time plan, and every section on tiny shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.benchmark import main
from jobs.benchmarks.gpu.plan import SECTIONS
from jobs.benchmarks.gpu.sections import MeasuredDevice, Section, run_sections
from pipeline.errors import UserError

HERE = MeasuredDevice(torch.device("cpu"), tiny=True)


def test_ten_sections_take_less_than_nine_minutes() -> None:
    assert len({section.name for section in SECTIONS}) == 10
    assert sum(section.bound_s for section in SECTIONS) < 540


def test_what_no_longer_fits_is_skipped_and_what_fails_stops_nothing(tmp_path: Path) -> None:
    now, written = [0.0], []
    out = tmp_path / "out.json"

    def takes(seconds: float) -> Any:
        def measure(bench: MeasuredDevice) -> dict[str, Any]:
            now[0] += seconds
            written.append(out.exists() and len(json.loads(out.read_text())["sections"]))
            return {"took": seconds}

        return measure

    def fails(bench: MeasuredDevice) -> dict[str, Any]:
        raise ValueError("no such kernel")

    sections = (
        Section("a", 10, takes(9)),
        Section("bad", 5, fails),
        Section("long", 30, takes(1)),
        Section("short", 5, takes(4)),
    )
    made = run_sections(sections, HERE, budget_s=20, out=str(out), clock=lambda: now[0])
    assert made == json.loads(out.read_text())
    assert made["sections"]["a"] == {"took": 9, "section_s": 9.0}
    assert "no such kernel" in made["sections"]["bad"]["error"]
    assert made["sections"]["long"]["skipped"] == "11 s left, 30 needed"
    assert made["sections"]["short"]["took"] == 4
    assert made["total_s"] == 13.0
    assert written == [False, 3]  # after each section


def test_only_some_sections(tmp_path: Path) -> None:
    made = run_sections(
        [Section("a", 1, lambda bench: {}), Section("b", 1, lambda bench: {})],
        HERE,
        budget_s=9,
        only=["b"],
    )
    assert [*made["sections"]] == ["b"]
    with pytest.raises(UserError, match="--only x: sections are facts, attention, parity"):
        run_sections(SECTIONS, HERE, budget_s=9, only=["x"])


def test_without_a_gpu_it_says_what_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu"]) == 2
    assert "--tiny tries the sections on a CPU" in capsys.readouterr().err


@pytest.mark.slow
def test_every_section_runs_on_tiny_shapes(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["gpu", "--tiny", "--budget-s", "100000", "--out", str(out)]) == 0
    sections = json.loads(out.read_text())["sections"]
    assert [*sections] == [section.name for section in SECTIONS]
    assert {name: part["error"] for name, part in sections.items() if "error" in part} == {}
    parity = sections["parity"]
    assert parity["device float32 paper"]["lowest_psnr_db"] == 99.0
    assert parity["device float32 paper"]["equal_decisions"] == 1
    assert sections["batch1"]["planned"]["nfe"] == [2]
    assert sections["engine"]["batch 2"]["shape"] == [5, 32, 32, 3]
    short = sections["batch2"]["short clips"]
    assert [*short] == ["1 rows", "2 rows", "4 rows", "8 rows"]
    assert min(short.values()) > 0
    turns = sections["batch2"]["rows take turns"]["decisions"]
    assert len(set(turns)) == 2
