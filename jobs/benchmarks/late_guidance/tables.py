"""The tables of plans that leave unconditional evaluations out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.benchmarks.tables import table

HEADINGS = (
    *("evaluations", "plan", "cond + uncond", "predicted", "PSNR dB", "worst 10 %"),
    *("to planned", "right", "fit"),
)


def guidance_cells(found: Mapping[str, Any]) -> list[list[str]]:
    """One row per plan of a sampler."""
    rows = []
    for arm in found["arms"]:
        psnr, gap = arm["psnr"], arm["to_planned"]
        shown = f"{'= ' if gap['tie'] else ''}{gap['mean']:+.1f} ± {_half(gap):.1f}"
        rows.append(
            [
                str(arm["budget"]),
                arm["kind"],
                f"{len(arm['computed'])} + {len(arm['guided'])}",
                "" if arm["predicted"] is None else f"{arm['predicted']:.4f}",
                f"{psnr['mean']:.1f} ± {_half(psnr):.1f}",
                f"{arm['worst_decile']:.1f}",
                "" if arm["kind"] == "planned" else shown,
                f"{arm['right']:.0%}",
                f"{arm['fit']:.3f}",
            ]
        )
    return rows


def guidance_table(sampler: str, found: Mapping[str, Any]) -> Table:
    """For the console."""
    whole = found["uncached"]
    caption = (
        f"uncached: {whole['right']:.0%} right, fit {whole['fit']:.3f}; PSNR to the uncached clip"
    )
    return table(sampler, HEADINGS, guidance_cells(found), caption)


def _half(interval: Mapping[str, float]) -> float:
    return (interval["high"] - interval["low"]) / 2
