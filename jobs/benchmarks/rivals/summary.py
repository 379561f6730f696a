"""What all stored results say together: the tables at the head of docs/benchmarks/rivals.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from jobs.benchmarks.quality.arms import FEWER_STEPS, PAPER
from jobs.benchmarks.quality.intervals import Interval, interval, paired, worst_decile
from jobs.benchmarks.rivals.cells import Cell
from jobs.benchmarks.rivals.tables import (
    NOT_REACHED,
    PLANNED,
    arms_of,
    clips_of,
    invisible_at,
    markdown_table,
)

PRIOR, OWN = "planned-prior", "planned-own"
NEAR = 1.0
"""Evaluations by which an arm may miss a point and still be compared there."""

EMPTY = "–"
PAPER_POINTS = (25, 21, 17)
HEADS = ("model", "sampler")


def summary(cells: Sequence[Cell]) -> str:
    """Return the text between the marks: who leads, by how much, and every number."""
    parts = [
        "**Lead of plans over the best other arm**",
        leads(cells),
        f"{tally(cells)} Paired difference of PSNR in dB over clips, ± half of its 95 % bootstrap "
        "interval, = where the interval holds 0. Plans are those of a run of the pipeline: on the "
        "embedded model from its shipped profile, on the others from first clips and the prior "
        f"({OWN}). Compared are the arms that come within {NEAR:g} evaluation of the point.",
        "**Invisible at**",
        invisible(cells),
        "Fewest evaluations from which on the difference is invisible at all measured points: for "
        "the mean of the clips / for their worst tenth.",
        "**Plans instead of the paper's rule**",
        ratios(cells),
        "PSNR of the paper's rule at its own mean number of evaluations, and the fewest measured "
        "evaluations with which the mean of plans is at least as near; nothing is interpolated, so "
        "the ratio is a lower bound.",
        "**Plans from the prior**",
        priors(cells),
        "PSNR in dB of plans from the library's prior, which rests on the embedded model alone; "
        "in brackets their paired difference to plans from the first clips of a run and the prior, "
        "to plans from a profile of one clip, and to fewer steps.",
        "**Everything**",
        everything(cells),
        "First line: PSNR in dB, mean ± half of the 95 % bootstrap interval / worst tenth. Second "
        "line: JOD, mean / worst tenth. Bold: the largest mean PSNR of the arms that come within "
        f"{NEAR:g} evaluation of the point; others have their number of evaluations.",
    ]
    return "\n\n".join(parts)


def leads(cells: Sequence[Cell]) -> str:
    """The table of how far plans lead, model by model."""
    rows = []
    for cell in cells:
        found = [_lead(cell, point) for point in points_of(cells)]
        rows.append([*_heads(cell), str(_clips(cell)), *found])
    return markdown_table((*HEADS, "clips", *map(str, points_of(cells))), rows)


def tally(cells: Sequence[Cell]) -> str:
    """How often plans are first, in a sentence."""
    found = [
        lead[0]
        for cell in cells
        for point in points_of([cell])
        if (lead := lead_of(cell, point)) is not None
    ]
    behind = sum(each.high < 0 for each in found)
    ties = sum(each.is_tie for each in found)
    return (
        f"Of {len(found)} comparisons plans lead {len(found) - ties - behind}, {ties} are ties, "
        f"and {behind} another arm leads."
    )


def invisible(cells: Sequence[Cell]) -> str:
    """The table of the numbers of evaluations from which on nobody sees a difference."""
    arms = all_arms(cells)
    rows = []
    for cell in cells:
        found = []
        for arm in arms:
            both = [invisible_at(cell.result, cell.sampler, arm, worst=w) for w in (False, True)]
            seen = " / ".join(NOT_REACHED if each is None else str(each) for each in both)
            is_seen = any(_values(cell, arm, point, "jod") for point in cell.result["points"])
            found.append(seen if is_seen else EMPTY)
        rows.append([*_heads(cell), *found])
    return markdown_table((*HEADS, *arms), rows)


def ratios(cells: Sequence[Cell]) -> str:
    """The table of the evaluations that plans need where the paper's rule needs 25, 21 or 17."""
    rows = [[*_heads(cell), *(_ratio(cell, point) for point in PAPER_POINTS)] for cell in cells]
    return markdown_table((*HEADS, *(f"about {point}" for point in PAPER_POINTS)), rows)


def priors(cells: Sequence[Cell]) -> str:
    """The table of what plans may be made from, on the models that the prior does not rest on."""
    shown = [cell for cell in cells if PRIOR in arms_of(cell.result, cell.sampler)]
    if not shown:
        return "Not measured yet."
    rows = [[*_heads(cell), *(_prior(cell, point) for point in points_of(cells))] for cell in shown]
    return markdown_table((*HEADS, *map(str, points_of(cells))), rows)


def everything(cells: Sequence[Cell]) -> str:
    """The table of all models, samplers, points and arms."""
    arms = all_arms(cells)
    rows = []
    for cell in cells:
        for point in points_of([cell]):
            best = _best(cell, point, arms)
            found = [_numbers(cell, arm, point, bold=arm == best) for arm in arms]
            rows.append([*_heads(cell), str(point), *found])
    return markdown_table((*HEADS, "NFE", *arms), rows)


def lead_of(cell: Cell, point: int) -> tuple[Interval, str] | None:
    """How far plans lead the best other arm at a point, in dB, and that arm; None without both."""
    arms = arms_of(cell.result, cell.sampler)
    other = _best(cell, point, [arm for arm in arms if not arm.startswith(PLANNED)])
    if not other or not _reaches(cell, plans_of(cell), point):
        return None
    found = _difference(cell, plans_of(cell), other, point)
    return None if found is None else (found, other)


def points_of(cells: Sequence[Cell]) -> list[int]:
    """All points of some cells, falling."""
    return sorted({point for cell in cells for point in cell.result["points"]}, reverse=True)


def all_arms(cells: Sequence[Cell]) -> list[str]:
    """All arms of some cells: plans first, then the others in the order of their runs."""
    seen = dict.fromkeys(arm for cell in cells for arm in arms_of(cell.result, cell.sampler))
    plans = [arm for arm in (PLANNED, OWN, PRIOR) if arm in seen]
    return [*plans, *(arm for arm in seen if arm not in plans)]


def plans_of(cell: Cell) -> str:
    """The arm of plans as a run of the pipeline makes them.

    They come from its own first clips, or, on the embedded model, from the shipped profile.
    """
    return OWN if OWN in arms_of(cell.result, cell.sampler) else PLANNED


def _heads(cell: Cell) -> list[str]:
    return [cell.title, cell.short_sampler]


def _clips(cell: Cell) -> int:
    return max(len(_values(cell, PLANNED, point, "psnr")) for point in cell.result["points"])


def _values(cell: Cell, arm: str, point: int, measure: str) -> list[float]:
    return clips_of(cell.result, cell.sampler, arm, point).get(measure, [])


def _reaches(cell: Cell, arm: str, point: int) -> bool:
    nfe = _values(cell, arm, point, "nfe")
    return bool(nfe) and abs(statistics.fmean(nfe) - point) <= NEAR


def _difference(cell: Cell, arm: str, other: str, point: int) -> Interval | None:
    """One arm less another over the clips that both have; None without any."""
    one, two = (_values(cell, each, point, "psnr") for each in (arm, other))
    both = min(len(one), len(two))
    return paired(one[:both], two[:both]) if both else None


def _best(cell: Cell, point: int, arms: Sequence[str]) -> str:
    """The arm of the largest mean at a point, of those that reach it; "" without any."""
    means = {
        arm: statistics.fmean(_values(cell, arm, point, "psnr"))
        for arm in arms
        if _reaches(cell, arm, point)
    }
    return max(means, key=lambda arm: means[arm], default="")


def _signed(difference: Interval | None) -> str:
    if difference is None:
        return EMPTY
    equal = "= " if difference.is_tie else ""
    return f"{equal}{difference.mean:+.1f} ± {difference.half:.1f}"


def _lead(cell: Cell, point: int) -> str:
    found = lead_of(cell, point)
    return EMPTY if found is None else f"{_signed(found[0])} ({found[1]})"


def _ratio(cell: Cell, point: int) -> str:
    paper = _values(cell, PAPER, point, "psnr")
    if not paper:
        return EMPTY
    reached, spent = (statistics.fmean(x) for x in (paper, _values(cell, PAPER, point, "nfe")))
    means = {
        each: statistics.fmean(psnr)
        for each in cell.result["points"]
        if (psnr := _values(cell, plans_of(cell), each, "psnr"))
    }
    enough = [each for each, mean in means.items() if mean >= reached]
    found = f"{reached:.1f} dB at {round(spent, 1):g}"
    if not enough:
        return f"{found}: {NOT_REACHED}"
    few = min(enough)
    return f"{found}: {few} ({spent / few:.1f} times fewer)"


def _prior(cell: Cell, point: int) -> str:
    psnr = _values(cell, PRIOR, point, "psnr")
    if not psnr:
        return EMPTY
    others = (OWN, PLANNED, FEWER_STEPS)
    differences = "; ".join(_signed(_difference(cell, PRIOR, each, point)) for each in others)
    return f"{statistics.fmean(psnr):.1f} ({differences})"


def _numbers(cell: Cell, arm: str, point: int, *, bold: bool) -> str:
    values = clips_of(cell.result, cell.sampler, arm, point)
    if not values["psnr"]:
        return EMPTY
    found = interval(values["psnr"])
    mean = f"**{found.mean:.1f}**" if bold else f"{found.mean:.1f}"
    lines = [f"{mean} ± {found.half:.1f} / {worst_decile(values['psnr']):.1f}"]
    if "jod" in values:
        jod = values["jod"]
        lines.append(f"{statistics.fmean(jod):.2f} / {worst_decile(jod):.2f}")
    if not _reaches(cell, arm, point):
        lines.append(f"at {statistics.fmean(values['nfe']):.1f}")
    return "<br>".join(lines)
