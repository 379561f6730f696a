"""The tables of the studies, for the console."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from jobs.benchmarks.ablation.lab import Study
from jobs.benchmarks.tables import table

READING = (
    "NFE: network evaluations in steps, mean. Floor: NFE if only n ended a sequence of reuses; a "
    "variant with this NFE follows a fixed pattern. PSNR and SSIM against the uncached clip of "
    "the same seed: mean over clips, half of the 95 % bootstrap interval, worst clip."
)
DIFFERENCE = (
    " Difference: PSNR, clip by clip, from the row whose cell is empty (of several, the one of the "
    "same setting and epsilon), whose NFE may be another; = where its 95 % interval holds 0, no "
    "proof that there is none."
)


def study_table(study: Study, setting: str) -> Any:
    """Return the table of a study's variants."""
    headings = ["variant", "NFE", "floor", "PSNR dB", "worst", "SSIM", "worst"]
    against = any("difference" in row for row in study.rows)
    if against:
        headings.append("difference dB")
    reading = READING + DIFFERENCE if against else READING
    rows = [_cells(row, against=against) for row in study.rows]
    return table(f"{study.title}: {setting}", headings, rows, reading)


def curve_table(study: Study) -> Any:
    """Return the table of the differences between profile curves."""
    rows = []
    for name, differences in study.curves.items():
        means = [difference["mean"] for difference in differences]
        worst = max(difference["worst"] for difference in differences)
        each = ", ".join(f"{d['branch']} {d['name']} {d['mean']:.1%}" for d in differences)
        rows.append((name, f"{statistics.fmean(means):.1%}", f"{worst:.1%}", each))
    return table(
        f"{study.title}: the curves",
        ("profiles", "mean difference", "worst", "mean of each"),
        rows,
        "difference: |a - b| / ((a + b) / 2), mean over tau",
    )


def _cells(row: Mapping[str, Any], *, against: bool) -> list[str]:
    psnr, ssim = row["psnr"], row["ssim"]
    cells = [
        row["name"],
        f"{row['nfe_mean']:.1f}",
        f"{row['nfe_floor']}",
        f"{psnr['mean']:.1f} ± {_half(psnr):.1f}",
        f"{psnr['worst']:.1f}",
        f"{ssim['mean']:.4f} ± {_half(ssim):.4f}",
        f"{ssim['worst']:.4f}",
    ]
    if against:
        gap = row.get("difference")
        tie = "= " if gap and gap["tie"] else ""
        cells.append(f"{tie}{gap['mean']:+.2f} ± {_half(gap):.2f}" if gap else "")
    return cells


def _half(interval: Mapping[str, float]) -> float:
    return (interval["high"] - interval["low"]) / 2
