"""The page on choosing shows the stored results on choosing clips, and no other numbers."""

from __future__ import annotations

import json

import pytest

from jobs.benchmarks.candidates.document import RESULTS, marks, section
from jobs.benchmarks.quality.document.benchmarks_md import CHOOSING


@pytest.mark.parametrize("name", ["drafts", "draft-frames", "good-clips", "draft-shortcuts"])
def test_the_document_shows_what_is_stored(name: str) -> None:
    written = json.loads((RESULTS / f"{name}.json").read_text())
    begin, end = marks(name)
    shown = CHOOSING.read_text().partition(begin)[2].partition(end)[0]
    assert shown == f"\n{section(name, written)}\n"
    assert "/tmp" not in written["conditions"]["command"]
