"""BENCHMARKS.md shows the numbers of the stored results, and leads to pages that exist."""

from __future__ import annotations

import re

from jobs.benchmarks.front_page import BEGIN, END, PAGE, section


def test_the_first_page_shows_five_stored_numbers() -> None:
    text = section()
    assert len(text.splitlines()) == 2 + 5
    assert f"{BEGIN}\n{text}\n{END}" in PAGE.read_text()


def test_every_page_of_benchmarks_is_linked() -> None:
    linked = set(re.findall(r"\]\((docs/benchmarks/\w+\.md)", PAGE.read_text()))
    assert linked == {
        f"docs/benchmarks/{each.name}" for each in PAGE.parent.glob("docs/benchmarks/*.md")
    }
