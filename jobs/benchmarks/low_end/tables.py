"""The table of very few evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.benchmarks.tables import table


def shown(cell: Mapping[str, Any]) -> str:
    """A cell's mean and worst tenth in dB."""
    return f"{cell['psnr']['mean']:.1f} / {cell['worst_decile']:.1f}"


def against_bounded(cell: Mapping[str, Any]) -> str:
    """A cell's difference to the bounded plan, with half its interval; = for a tie."""
    gap = cell.get("to_bounded")
    if gap is None:
        return ""
    return f"{'= ' if gap['tie'] else ''}{gap['mean']:+.1f} ± {(gap['high'] - gap['low']) / 2:.1f}"


def low_end_table(sampler: str, found: Mapping[str, Any]) -> Table:
    """For the console: a row per way and number of evaluations."""
    rows = [
        [str(cell["nfe"]), cell["way"], shown(cell), against_bounded(cell)]
        for cell in found["cells"]
    ]
    headings = ("evaluations", "way", "PSNR dB, mean / worst 10 %", "to bounded")
    return table(sampler, headings, rows, "PSNR to the uncached clip")
