"""The table of promises is that of the stored results, and says what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.profiles import promise_document
from jobs.benchmarks.profiles.promise import summary
from jobs.benchmarks.quality.document.benchmarks_md import DOCUMENT


def row(source: str, nfe: int, promised: float, probed: float | None, measured: float) -> Any:
    return {
        "sampler": "FlowMatchEulerDiscreteScheduler/3.0",
        "steps": 50,
        "from": source,
        "nfe": nfe,
        "promised": promised,
        "with_probe": probed,
        "measured": measured,
        "psnr": 50.0 + nfe,
        "psnr_tenth": 40.0 + nfe,
    }


RESULT: Any = {
    "conditions": {
        "gpu": "",
        "cpu": "a processor",
        "threads": 1,
        "date": "2026-11-28T00:00:00+00:00",
        "command": "jobs/benchmark.py promise --json /somewhere/out.json",
        "versions": {"torch": "2", "diffusers": "0.42"},
    },
    "result": {
        "model": "demo",
        "weights": "shipped",
        "clips": 8,
        "rows": [row("prior", 20, 0.01, 0.02, 0.02), row("prior", 10, 0.08, 0.04, 0.04)],
    },
}


def test_a_promise_is_off_by_the_same_factor_above_and_below() -> None:
    (line,) = summary(RESULT["result"]["rows"])
    assert line["promised"] == pytest.approx(2.0)  # half and twice of what came out
    assert line["with_probe"] == pytest.approx(1.0)
    assert line["psnr"] == pytest.approx(65.0)
    one = summary([row("prior", 20, 0.01, None, 0.03)])[0]
    assert one["with_probe"] is None
    assert math.isclose(one["promised"], 3.0, rel_tol=1e-3)


def test_results_are_stored_and_shown(tmp_path: Path) -> None:
    shown, kept = tmp_path / "shown.md", tmp_path / "results" / "kept.json"
    begin, end = promise_document.BEGIN, promise_document.END
    shown.write_text(f"before\n{begin}\nOLDER\n{end}\nafter\n")
    promise_document.keep([RESULT], kept, shown)
    text = shown.read_text()
    assert "OLDER" not in text
    assert "| prior | 2 | 1 | 65.0 / 55.0 |" in text
    assert "| FlowMatchEulerDiscrete 50, prior | 0.01, 0.02: 0.02 | 0.08, 0.04: 0.04 |" in text
    assert "/somewhere" not in kept.read_text()


def test_the_document_shows_what_is_stored() -> None:
    text = promise_document.section(json.loads(promise_document.KEPT.read_text()))
    begin, end = promise_document.BEGIN, promise_document.END
    assert f"{begin}\n{text}\n{end}" in DOCUMENT.read_text()
