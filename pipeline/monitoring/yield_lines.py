"""What a run says about its good clips: those that meet the condition `--keep`."""

from __future__ import annotations

from pipeline.monitoring.totals import RunTotals
from pipeline.wording import counted


def yield_text(totals: RunTotals, price_per_hour: float | None) -> str:
    """How many clips are good, and what a good one cost; "" where no condition was given.

    The cost of a good clip is everything that the run spent, over its good clips.

    Args:
        totals: Of the run.
        price_per_hour: Of a device; None where it is not known.
    """
    judged = totals.good + totals.not_good
    unknown = totals.clips - judged
    if not judged:
        return ""
    text = f"{totals.good} of {counted(judged, 'clip')} ({totals.good / judged:.0%})"
    if unknown:
        text += f", {unknown} not judged because scores are missing (scores_missing)"
    spent_s = sum(totals.spent.values())
    if totals.good and spent_s > 0:
        text += f"; {spent_s / totals.good:.2f} device seconds"
        if price_per_hour is not None:
            text += f", ${spent_s / totals.good * price_per_hour / 3600:.6f}"
        text += " a good clip"
    return text
