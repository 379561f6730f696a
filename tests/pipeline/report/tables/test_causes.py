"""Rows that end for different reasons are counted apart, though one exception says them all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.report.pricing.prices import Prices
from pipeline.report.tables.causes import MAX_CAUSES
from pipeline.report.text import print_report
from tests.pipeline.report.made import measure, row, write


def ended(number: int, message: str, status: str = "rejected") -> dict[str, Any]:
    error = {"error_type": "RowRejectedError", "error_message": message}
    return row(number, status=status) | error


MESSAGES = ["seed is -1, outside 0 to 9", "prompt is empty", "seed is -2, outside 0 to 9"]


def test_reasons_of_one_type_are_counted_apart(tmp_path: Path) -> None:
    rows = [row(9), *(ended(number, text) for number, text in enumerate(MESSAGES))]
    rows.append(ended(5, "prompt is empty", "failed"))
    report = measure(write(tmp_path, rows), Prices())
    found = [(each.status, each.samples, each.example_message) for each in report.failures]
    assert found[0] == ("rejected", 2, MESSAGES[0])
    assert sorted(found[1:]) == [("failed", 1, MESSAGES[1]), ("rejected", 1, MESSAGES[1])]
    text = io.StringIO()
    print_report(report, Console(file=text, width=200))
    said = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert "rejected 2 RowRejectedError · seed is -1, outside 0 to 9" in said
    assert "rejected 1 RowRejectedError · prompt is empty" in said


def test_causes_beyond_the_most_that_are_shown_are_counted_together(tmp_path: Path) -> None:
    names = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(MAX_CAUSES + 3)]
    rows = [ended(number, f"no {name}") for number, name in enumerate(names)]
    failures = measure(write(tmp_path, [row(99), *rows]), Prices()).failures
    assert len(failures) == MAX_CAUSES + 1
    assert (failures[-1].samples, failures[-1].example_message) == (3, "3 other causes")
    assert sum(each.samples for each in failures) == len(names)
