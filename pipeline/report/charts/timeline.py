"""Clips that were finished over time. Time in which no run was up is left out, and said."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from markupsafe import Markup

from pipeline.monitoring.progress import duration
from pipeline.report.charts.axes import Axis
from pipeline.report.charts.svg import Frame, bar, element, legend, percent
from pipeline.report.document import Report
from pipeline.report.tables.document import Stretch
from pipeline.wording import counted

UNITS = (("hours", 3600.0, 6 * 3600.0), ("minutes", 60.0, 300.0), ("seconds", 1.0, 0.0))
"""Unit of the axis, its seconds, and from how many seconds on it is used."""

PAUSES_SAID = 3


def timeline(report: Report) -> Markup:
    """Clips per minute by node, over the time in which runs were up."""
    stretches = report.stretches
    if not report.throughput or not stretches:
        return Markup()
    begins, total = [], 0.0
    for stretch in stretches:
        begins.append(total)
        total += stretch.seconds
    nodes = list(dict.fromkeys(sorted(bucket.node for bucket in report.throughput)))
    name, unit, _ = next(each for each in UNITS if total > each[2])
    heights: dict[tuple[int, int], float] = {}
    for bucket in report.throughput:
        place = (bucket.stretch, bucket.span)
        heights[place] = heights.get(place, 0.0) + _rate(bucket.clips, stretches[bucket.stretch])
    x = Axis.over(0.0, total / unit)
    y = Axis.from_zero(max(heights.values()))
    frame = Frame(220, x, f"{name} in which a run was up", y, "clips per minute")

    def marks() -> Iterator[Markup]:
        below: dict[tuple[int, int], float] = {}
        for bucket in report.throughput:
            stretch = stretches[bucket.stretch]
            length = stretch.seconds / stretch.spans
            left = (begins[bucket.stretch] + bucket.span * length) / total
            rate, place = _rate(bucket.clips, stretch), (bucket.stretch, bucket.span)
            base = below.get(place, 0.0)
            below[place] = base + rate
            yield bar(
                left + 0.03 * length / total,
                0.94 * length / total,
                frame.top(base + rate),
                frame.top(base) - frame.top(base + rate),
                nodes.index(bucket.node),
                f"{counted(bucket.clips, 'clip', grouped=True)}, {rate:.3g} a minute, "
                f"on {bucket.node}, from {bucket.start}",
            )
        for begin, pause in zip(begins[1:], _pauses(stretches), strict=True):
            yield element(
                "line",
                element("title", f"{duration(pause)} without a run"),
                x1=percent(begin / total),
                x2=percent(begin / total),
                y1=0,
                y2=frame.height,
                class_="equal",
            )

    return frame.drawn(marks(), "Clips finished over time") + legend(nodes) + _said(stretches)


def _rate(clips: int, stretch: Stretch) -> float:
    """Clips per minute in one span of a stretch."""
    return clips * 60 * stretch.spans / stretch.seconds


def _pauses(stretches: list[Stretch]) -> list[float]:
    """Seconds between each stretch and the next one."""
    starts = [datetime.datetime.fromisoformat(each.start).timestamp() for each in stretches]
    return [
        max(0.0, later - start - each.seconds)
        for each, start, later in zip(stretches, starts, starts[1:], strict=False)
    ]


def _said(stretches: list[Stretch]) -> Markup:
    pauses = sorted(_pauses(stretches), reverse=True)
    if not pauses:
        return Markup()
    longest = ", ".join(duration(pause) for pause in pauses[:PAUSES_SAID])
    more = f" and {len(pauses) - PAUSES_SAID} shorter ones" if len(pauses) > PAUSES_SAID else ""
    return element(
        "p",
        f"Dotted lines are pauses, in which no run was up; the axis leaves them out: {longest}"
        f"{more}.",
        class_="pauses",
    )
