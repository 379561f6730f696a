"""Numbers over clips of a result of `rivals`, for the console and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.benchmarks.quality.document.tables import markdown_row
from jobs.benchmarks.quality.intervals import interval, paired, worst_decile
from jobs.benchmarks.quality.perception import INVISIBLE_JOD

PLANNED = "planned"
HEADINGS = (
    *("NFE", "arm", "clips", "PSNR dB", "worst 10 %", "planned leads by", "JOD", "worst 10 %"),
    "FLIP",
)
READING = (
    "Against the uncached run of the same sampler: mean and half of the 95 % bootstrap interval "
    "over clips. Planned leads by: paired difference in dB, = where the interval holds 0. JOD: "
    f"ColorVideoVDP, 10 is equal; from {INVISIBLE_JOD:g} on a difference counts as invisible. "
    "FLIP: 0 is equal."
)
NOT_REACHED = "none"


def clips_of(
    result: Mapping[str, Any], sampler: str, arm: str, point: int
) -> dict[str, list[float]]:
    """Values per clip of an arm at a point, by measure, in the order of the clips."""
    lines = [
        each
        for each in result["samplers"][sampler]
        if (each["arm"], each["wanted"]) == (arm, point) and "nfe" in each
    ]
    lines.sort(key=lambda each: each["batch"])
    names = ("nfe", *result["measures"])
    return {name: [value for each in lines for value in each[name]] for name in names}


def arms_of(result: Mapping[str, Any], sampler: str) -> list[str]:
    """Arms that were measured, in the order of their runs."""
    return list(dict.fromkeys(each["arm"] for each in result["samplers"][sampler] if "nfe" in each))


def title_of(result: Mapping[str, Any], sampler: str) -> str:
    """Return the conditions of a table's numbers, in one line."""
    request = result["request"]
    size = f"{request['width']}x{request['height']}x{request['num_frames']}"
    label = result.get("label", result["model"])
    return (
        f"{label} {size}, {sampler}, {result['steps']} steps, guidance "
        f"{request['guidance_scale']:g}, {result['split']} clips"
    )


def rows_of(result: Mapping[str, Any], sampler: str) -> list[list[str]]:
    """Return the cells of one sampler's table, by falling NFE."""
    rows = []
    for point in sorted(result["points"], reverse=True):
        planned = clips_of(result, sampler, PLANNED, point)
        for arm in arms_of(result, sampler):
            values = clips_of(result, sampler, arm, point)
            if values["psnr"]:
                rows.append(_row(arm, values, planned["psnr"]))
    return rows


def leaders(result: Mapping[str, Any], sampler: str) -> dict[int, str]:
    """The arm of the largest mean PSNR at every point that was measured."""
    best = {}
    for point in sorted(result["points"], reverse=True):
        means = {
            arm: statistics.fmean(psnr)
            for arm in arms_of(result, sampler)
            if (psnr := clips_of(result, sampler, arm, point)["psnr"])
        }
        if means:
            best[point] = max(means, key=lambda arm: means[arm])
    return best


def invisible_at(result: Mapping[str, Any], sampler: str, arm: str, *, worst: bool) -> int | None:
    """The smallest NFE from which on an arm's difference is invisible at all measured points.

    It is the arm's own number of evaluations, which may miss the wanted one.

    Args:
        result: The output of the benchmark.
        sampler: One of its samplers.
        arm: One of its arms.
        worst: Whether the worst tenth of the clips must be invisible, and not their mean alone.
    """
    found = None
    for point in sorted(result["points"], reverse=True):
        jod = clips_of(result, sampler, arm, point).get("jod", [])
        if not jod or (worst_decile(jod) if worst else statistics.fmean(jod)) < INVISIBLE_JOD:
            break
        found = round(statistics.fmean(clips_of(result, sampler, arm, point)["nfe"]))
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """Return all tables of a result as Markdown; `READING` explains them."""
    parts = []
    for sampler, lines in result["samplers"].items():
        if not lines:
            continue
        rows = rows_of(result, sampler)
        parts.append(f"**{title_of(result, sampler)}**\n\n{markdown_table(HEADINGS, rows)}")
        parts.append(f"First by mean PSNR: {_leads(result, sampler)}.")
        if "jod" in result["measures"]:
            parts.append(
                markdown_table(("invisible at NFE", "mean", "worst 10 %"), _seen(result, sampler))
            )
        if problems := _problems(lines):
            parts.append(f"Not measured: {problems}.")
    return "\n\n".join(parts)


def _row(arm: str, values: Mapping[str, Sequence[float]], planned: Sequence[float]) -> list[str]:
    psnr = values["psnr"]
    lead = ""
    if arm != PLANNED and planned:
        both = min(len(psnr), len(planned))
        difference = paired(planned[:both], psnr[:both])
        equal = "= " if difference.is_tie else ""
        lead = f"{equal}{difference.mean:+.1f} ± {difference.half:.1f}"
    return [
        f"{statistics.fmean(values['nfe']):.1f}",
        arm,
        str(len(psnr)),
        _mean(psnr, 1),
        f"{worst_decile(psnr):.1f}",
        lead,
        _mean(values["jod"], 2) if "jod" in values else "",
        f"{worst_decile(values['jod']):.2f}" if "jod" in values else "",
        f"{statistics.fmean(values['flip']):.4f}" if "flip" in values else "",
    ]


def _mean(values: Sequence[float], digits: int) -> str:
    found = interval(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


def _leads(result: Mapping[str, Any], sampler: str) -> str:
    return ", ".join(f"{arm} at {point}" for point, arm in leaders(result, sampler).items())


def _seen(result: Mapping[str, Any], sampler: str) -> list[list[str]]:
    rows = []
    for arm in arms_of(result, sampler):
        points = [invisible_at(result, sampler, arm, worst=worst) for worst in (False, True)]
        rows.append([arm, *(NOT_REACHED if each is None else str(each) for each in points)])
    return rows


def _problems(lines: Sequence[Mapping[str, Any]]) -> str:
    found = {f"{each['arm']}: {each['problem']}" for each in lines if "problem" in each}
    return "; ".join(sorted(found))


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    return "\n".join(map(markdown_row, (headings, ["---"] * len(headings), *rows)))
