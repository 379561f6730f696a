"""The table of what a good clip costs, for the console and BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.benchmarks.candidates.prompt_costs import summaries
from jobs.benchmarks.quality.intervals import Interval
from jobs.benchmarks.tables import table

HEADINGS = (
    *("arm", "NFE a prompt", "CPU s a prompt", "CPU to uncached", "denoising to uncached"),
    *("good", "judge", "judge less uncached's"),
    *("NFE a good clip", "CPU s a good clip", "$ / 1,000 good clips"),
)


def good_clip_cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table, one row per arm."""
    rows: list[list[str]] = []
    for each in summaries(result["tries"], result["price"]):
        first = not rows
        rows.append(
            [
                each.arm,
                f"{each.nfe:.1f}",
                f"{each.cpu_s.mean:.2f}",
                "" if first else _shown(each.cpu_ratio, 2),
                "" if first else _shown(each.denoise_ratio, 2),
                f"{each.good.mean:.0%} [{each.good.low:.0%}, {each.good.high:.0%}]",
                f"{each.score.mean:.3f}",
                "" if first else _shown(each.score_gain, 3, sign="+"),
                _shown(each.nfe_per_good, 0),
                _shown(each.cpu_s_per_good, 2),
                _shown(each.dollars_per_good, 3),
            ]
        )
    return rows


def good_clip_table(result: Mapping[str, Any]) -> Table:
    """The table for the console."""
    title = f"demo, {result['prompts']} {result['split']} captions; good: {result['keep']}"
    caption = f"$ at {result['price']:g} an hour of a core"
    return table(title, HEADINGS, good_clip_cells(result), caption)


def _shown(value: Interval, digits: int, sign: str = "") -> str:
    low, high = (f"{end:{sign}.{digits}f}" for end in (value.low, value.high))
    return f"{value.mean:{sign}.{digits}f} [{low}, {high}]"
