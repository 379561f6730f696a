"""The table of what scores find says what is stored."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.benchmarks.quality.document.benchmarks_md import CHOOSING
from jobs.benchmarks.scoring import detection

KEPT = Path(detection.__file__).parent / "results" / "demo.json"


def test_the_document_shows_what_is_stored() -> None:
    result = json.loads(KEPT.read_text())["result"]
    text = CHOOSING.read_text()
    for name, each in result["faults"].items():
        assert f"| {name} | `{each['score']}` | {each['found']:.1%} |" in text
    for name, each in result["duplicates"].items():
        line = f"| duplicate, {name} | `perceptual_hash`, {each['bits']} bits | {each['found']:.1%}"
        assert line in text
