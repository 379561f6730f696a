"""The table of what scores find says what is stored."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.benchmarks.quality.document.benchmarks_md import CHOOSING
from jobs.benchmarks.scoring import detection

BAR = 0.95
KEPT = Path(detection.__file__).parent / "results" / "demo.json"


def test_the_document_shows_what_is_stored() -> None:
    result = json.loads(KEPT.read_text())["result"]
    text = CHOOSING.read_text()
    for name, each in result["faults"].items():
        assert f"| {name} | `{each['score']}` | {each['found']:.1%} |" in text
    copies = result["duplicates"]
    for name, each in copies.items():
        line = f"| duplicate, {name} | `perceptual_hash`, {each['bits']} bits | {each['found']:.1%}"
        assert line in text
    (bits,) = {each["report_bits"] for each in copies.values()}
    least = min(each["report_found"] for each in copies.values())
    assert (
        f"Within the {bits} bits of the report's groups at least {least:.1%} of each kind of "
        f"duplicate are found, and {result['report_alarms']:.2%} of pairs of different clips"
    ) in text


def test_every_kind_of_fault_passes_the_bar_that_the_document_states() -> None:
    result = json.loads(KEPT.read_text())["result"]
    kinds = [*result["faults"].values(), *result["duplicates"].values()]
    assert min(each["found"] for each in kinds) >= BAR
    assert f"The bar is {BAR:.0%} found at {detection.FALSE_ALARMS:.0%}" in CHOOSING.read_text()
