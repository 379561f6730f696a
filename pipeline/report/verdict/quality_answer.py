"""Is it good? A plain answer first, then the few numbers that it rests on."""

from __future__ import annotations

from pipeline.report import text
from pipeline.report.bootstrap import FEW
from pipeline.report.document import Report
from pipeline.report.good_clips.advice import defects_found
from pipeline.report.pairs import broken_promises, is_blended
from pipeline.wording import counted, listed

INVISIBLE_DB = 50.0
"""From this mean PSNR on, the difference is invisible in 76 of the 79 comparisons of the page on
rivals (docs/benchmarks/rivals_tables.md: 9.9 JOD or more)."""

VISIBLE_DB = 42.0
"""Below this mean PSNR, the difference is visible in each of the 297 comparisons there."""


def is_it_good(report: Report) -> str:
    """Say whether caching can be seen, whether clips are good, and what is not known of either."""
    parts = [_looks(report), _judged(report)]
    return " ".join(filter(None, parts))


def looks_as_uncached(mean_db: float, worst_db: float, pairs: int) -> str:
    """A plain answer from the PSNR of cached clips to their controls.

    Args:
        mean_db: Over the pairs.
        worst_db: Of the worst pair.
        pairs: Number of pairs.
    """
    if mean_db < VISIBLE_DB:
        return "No: cached clips can be told from their uncached twins"
    if mean_db < INVISIBLE_DB:
        return "Partly: some cached clips can be told from their uncached twins"
    if worst_db < VISIBLE_DB:
        return "Mostly: cached clips look like their uncached twins, but not all"
    answer = "Probably" if pairs < FEW else "Yes"
    return f"{answer}: cached clips look like their uncached twins"


def _looks(report: Report) -> str:
    head = report.headline
    if not head.psnr_db:
        return _not_known(report)
    worst = head.psnr_db.value if head.psnr_worst is None else head.psnr_worst
    few = "only " if head.quality_pairs < FEW else ""
    pairs = few + counted(head.quality_pairs, "pair", grouped=True)
    numbers = f"mean {text.decibels(head.psnr_db.value)}, worst {text.decibels(worst)} of {pairs}"
    if head.quality_pairs == 1:
        numbers = f"{text.decibels(worst)}, only 1 pair"
    said = [f"{looks_as_uncached(head.psnr_db.value, worst, head.quality_pairs)} ({numbers})."]
    if is_blended(report.quality):
        kinds = listed(list(dict.fromkeys(each.settings for each in report.quality)))
        table = "; a table below has a line for each" if len(report.quality) > 1 else ""
        said.append(f"This blends pairs of {kinds}{table}.")
    if head.unpaired:
        others = counted(head.unpaired, "cached clip", grouped=True)
        said.append(
            f"Not known of {others} of other settings ({listed(head.unpaired_kinds)}): "
            f"{'it has' if head.unpaired == 1 else 'they have'} no controls."
        )
    broken = broken_promises(report.quality)
    for where, promised, measured in broken:
        of = f" of {where}" if where else ""
        said.append(
            f"The error of caching{of} is {measured / promised:.1f} times the promised one, more "
            "than usual."
        )
    return " ".join(said)


def _not_known(report: Report) -> str:
    if report.speedup.controls_to_come:
        return "Not known yet: the controls, which show what caching changed, are still to come."
    if report.totals.nfe < report.totals.steps:
        return "Not known: no controls show what caching changed."
    return ""


def _judged(report: Report) -> str:
    """What is known of the clips themselves: a condition, else defects, else nothing."""
    found = report.good_clips
    if found and found.good + found.not_good:
        judged = found.good + found.not_good
        clips = counted(judged, "judged clip", grouped=True)
        meets = "meets" if found.good == 1 else "meet"
        return (
            f"{text.count(found.good)} of {clips} ({found.good / judged:.0%}) {meets} the "
            f"condition {found.condition or 'of their runs'}."
        )
    if found and found.defects:
        said = defects_found(found.defects, found.defective)
        return f"{said[0].upper()}{said[1:]}; whether clips show their prompts was not judged."
    return "Whether clips are good was not judged."
