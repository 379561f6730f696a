"""What it cost: device time, what it went into, money, and how much faster caching was."""

from __future__ import annotations

from pipeline.monitoring.progress import duration
from pipeline.report import text
from pipeline.report.bootstrap import FEW
from pipeline.report.document import Report
from pipeline.report.pairs import WARM_UP
from pipeline.wording import are, counted

LEAST_SHARE = 0.005
"""A smaller share of the device time is not named."""

_BESIDE = {
    "controls": "controls",
    "drafts": "drafts",
    "loading": "loading the model",
    "idle": "waiting",
    "failed_attempts": "failed attempts",
    "regenerated": "clips that were made again",
}
"""What device time goes into beside the clips, and its words."""


def what_it_cost(report: Report) -> str:
    """Sum up device time and money, and say how much faster caching made the clips."""
    spent, ok = report.device_s, report.totals.ok
    each = f", {spent.total / ok:.2f} s a clip with everything" if ok else ""
    said = f"{duration(spent.total)} of device time{each}"
    if report.dollars:
        said += f"; {text.dollars(report.dollars.total)}"
        if ok:
            said += f", or {text.dollars(1000 * report.dollars.total / ok)} per 1,000 clips"
    else:
        said += "; no price is known"
    if ok and spent.total:
        others = sorted(
            ((getattr(spent, name) / spent.total, what) for name, what in _BESIDE.items()),
            reverse=True,
        )
        rest = ", ".join(f"{what} {share:.0%}" for share, what in others if share >= LEAST_SHARE)
        said += f"; {spent.clips / spent.total:.0%} of the time went into the clips"
        said += f", the rest into other things: {rest}" if rest else ""
    return " ".join(filter(None, [f"{said}.", _faster(report)]))


def _faster(report: Report) -> str:
    """By how much caching made clips faster, over which pairs; "" where it was not measured."""
    speedup = report.speedup
    if not speedup.ratio:
        return ""
    over = counted(speedup.pairs, "pair", grouped=True)
    if 0 < speedup.calls < speedup.pairs:
        over += f" of {counted(speedup.calls, 'engine call')}"
    if min(speedup.pairs, speedup.calls or speedup.pairs) < FEW:
        over += ", too few to trust it"
    said = f"Caching made clips {speedup.ratio.value:.2f} times as fast ({over}"
    if warm := speedup.left_out.get(WARM_UP):
        said += f"; {warm:,} more {are(warm)} left out, as the first call of a process warms up"
    said += ")"
    return f"{said}{f'; {speedup.why}' if speedup.why else ''}."
