"""The plain answer of a report, and the measurements that its two levels rest on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.report.bootstrap import FEW
from pipeline.report.verdict.quality_answer import INVISIBLE_DB, VISIBLE_DB, looks_as_uncached

ROOT = Path(__file__).parents[4]
INVISIBLE_JOD = 9.9


@pytest.mark.parametrize(
    ("mean", "worst", "pairs", "answer"),
    [
        (60.0, 43.0, FEW, "Yes: "),
        (60.0, 43.0, FEW - 1, "Probably: "),
        (60.0, 41.9, FEW, "Mostly: "),
        (49.9, 49.0, FEW, "Partly: "),
        (41.9, 41.0, 100, "No: "),
    ],
)
def test_the_answer_follows_from_mean_worst_and_number(
    mean: float, worst: float, pairs: int, answer: str
) -> None:
    assert looks_as_uncached(mean, worst, pairs).startswith(answer)


def test_the_levels_are_those_of_the_page_on_rivals() -> None:
    lines = (ROOT / "docs/benchmarks/rivals_tables.md").read_text().splitlines()
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    pairs = [
        (float(psnr[0]), float(jod[0]))
        for row in cells
        if len(row) == 9
        and re.fullmatch(r"[\d.]+", row[0])
        and (psnr := re.findall(r"[\d.]+", row[3]))
        and (jod := re.findall(r"[\d.]+", row[6]))
    ]
    below = [jod for psnr, jod in pairs if psnr < VISIBLE_DB]
    above = [jod >= INVISIBLE_JOD for psnr, jod in pairs if psnr >= INVISIBLE_DB]
    assert (len(below), max(below) < INVISIBLE_JOD) == (297, True)
    assert (sum(above), len(above)) == (76, 79)
