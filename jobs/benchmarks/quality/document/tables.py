"""The tables of a result, for the console and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobs.benchmarks.tables import table

HEADINGS = (
    "arm",
    "NFE",
    "P95",
    "uncached: PSNR dB",
    "worst 10 %",
    "SSIM",
    "to SenCache",
    "converged: PSNR dB",
    "worst 10 %",
    "to SenCache",
    "right, fit",
    "loop",
    "of ideal",
)
READING = (
    "PSNR and SSIM of the decoded clip, mean and 95 % bootstrap interval over clips, against the "
    "uncached run of the same sampler and against a converged run. The uncached run's own distance "
    "to the converged one is the level beyond which decibels to the uncached run stop mattering. "
    "To SenCache: paired difference to its paper's rule at the same point, = where the interval "
    "holds 0. Right: clips that show all that the caption asks for; fit: overlap of their outlines "
    "with the nearest shape. Loop: uncached seconds / this arm's in the denoising loop; of "
    "ideal: loop / (steps / NFE)."
)


def sampler_table(result: Mapping[str, Any], sampler: str) -> Any:
    """Return the table of one sampler's arms, for the console."""
    return table(title_of(result, sampler), HEADINGS, rows_of(result, sampler), READING)


def title_of(result: Mapping[str, Any], sampler: str) -> str:
    """Return the conditions of a table's numbers, in one line."""
    request, converged = result["request"], result["converged"]
    size = f"{request['width']}x{request['height']}x{request['num_frames']}"
    return (
        f"{result['model']} {size}, {sampler}, {request['num_inference_steps']} steps, guidance "
        f"{request['guidance_scale']:g}, {result['clips']} {result['split']} clips; converged: "
        f"{converged['scheduler'] or 'given'}, {converged['steps']} steps"
    )


def rows_of(result: Mapping[str, Any], sampler: str) -> list[list[str]]:
    """Return the cells of one sampler's table: the uncached run, then points by falling NFE."""
    measured = result["samplers"][sampler]
    ordered = sorted(measured["arms"], key=lambda arm: -arm["wanted_nfe"])  # stable within a point
    return [_row(measured["uncached"]), *(_row(arm) for arm in ordered if "nfe_mean" in arm)]


def markdown(result: Mapping[str, Any]) -> str:
    """Return all tables of a result as Markdown; `READING` explains them."""
    parts = []
    for sampler in result["samplers"]:
        lines = [f"**{title_of(result, sampler)}**", "", markdown_row(HEADINGS)]
        lines.append(markdown_row(["---"] * len(HEADINGS)))
        lines += [markdown_row(cells) for cells in rows_of(result, sampler)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _row(arm: Mapping[str, Any]) -> list[str]:
    name = arm["arm"] if arm["arm"] == "uncached" else f"{arm['arm']} {arm['wanted_nfe']}"
    near, true = arm["to"].get("uncached", {}), arm["to"].get("converged", {})
    right = arm["right"]
    return [
        name,
        f"{arm['nfe_mean']:.1f}",
        f"{arm['nfe_p95']:.1f}",
        _mean(near.get("psnr")),
        _number(near.get("psnr"), "worst_decile", 1),
        _number(near.get("ssim"), "mean", 4),
        _difference(near.get("psnr")),
        _mean(true.get("psnr")),
        _number(true.get("psnr"), "worst_decile", 1),
        _difference(true.get("psnr")),
        "" if right is None else f"{right:.0%}, {arm['fit']:.3f}",
        f"{arm['wall_ratio']:.2f}x",
        f"{arm['wall_share']:.0%}",
    ]


def _mean(numbers: Mapping[str, float] | None) -> str:
    if numbers is None:
        return ""
    return f"{numbers['mean']:.1f} ± {(numbers['high'] - numbers['low']) / 2:.1f}"


def _number(numbers: Mapping[str, float] | None, name: str, digits: int) -> str:
    return "" if numbers is None else f"{numbers[name]:.{digits}f}"


def _difference(numbers: Mapping[str, Any] | None) -> str:
    against = (numbers or {}).get("against_paper")
    if against is None:
        return ""
    half = (against["high"] - against["low"]) / 2
    return f"{'= ' if against['tie'] else ''}{against['mean']:+.1f} ± {half:.1f}"


def markdown_row(cells: Iterable[str]) -> str:
    """Return one row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
