"""`distilled`: a distilled model beside its teacher, cached and with fewer steps."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

HELP = "a distilled model beside its cached and uncached teacher: cost, accuracy, diversity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--captions", type=int, default=20, help="held-out captions, at most 64")
    parser.add_argument("--seeds", type=int, default=4, help="clips of each caption")
    parser.add_argument("--price", type=float, default=0.10, help="$ per hour of a core")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return the arms.

    Raises:
        UserError: There are too few captions or seeds.
    """
    from jobs.benchmarks.distilled.arms import distilled_arms
    from jobs.benchmarks.distilled.measure import measure
    from jobs.benchmarks.distilled.summary import summary

    arms = distilled_arms(options.captions, options.seeds)
    records = measure(arms, console)
    rows = [summary(record, records[0], options.price) for record in records]
    console.print(_table(rows, options))
    return [asdict(row) for row in rows]


def _table(rows: list[Any], options: argparse.Namespace) -> Any:
    from jobs.benchmarks.tables import table

    headings = (
        *("arm", "NFE", "calls", "CPU s", "$ / 1000", "right", "fit", "worst 10 %"),
        *("to uncached: PSNR dB", "worst 10 %", "diversity"),
    )
    first = rows[0]
    cells = [
        (
            row.arm,
            f"{row.nfe:g}",
            f"{row.calls:g}",
            f"{row.cpu_s:.3f}",
            f"{row.dollars_per_1000:.4f}",
            f"{row.right:.1%}",
            f"{row.fit:.3f}",
            f"{row.worst_fit:.3f}",
            "" if row is first else f"{row.psnr:.1f} ± {row.psnr_half:.1f}",
            "" if row is first else f"{row.worst_psnr:.1f}",
            f"{row.diversity:.4f} ({row.diversity / first.diversity:.0%})",
        )
        for row in rows
    ]
    title = f"demo, {options.captions} held-out captions, {options.seeds} seeds each"
    caption = (
        f"calls: evaluations of the network for a clip, both branches of guidance counted; $ at "
        f"{options.price:g} an hour of a core; diversity: mean distance (root mean square of "
        "pixels in 0..1) of two clips of a caption"
    )
    return table(title, headings, cells, caption)
