"""Which charts a report has, and what each of them shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from markupsafe import Markup

from pipeline.monitoring.progress import duration
from pipeline.report.charts.axes import Axis
from pipeline.report.charts.svg import Frame, bar, element, legend, percent
from pipeline.report.charts.timeline import timeline
from pipeline.report.document import Decisions, Report, ScatterPoint
from pipeline.report.good_clips.document import ScoreSummary
from pipeline.wording import counted

ROW = 26
"""Pixels of a row of horizontal bars."""

CELL = 22
"""Pixels of a line of decisions."""

MANY_POINTS = 300
"""From so many points on they are smaller and do not say their values."""


def charts(report: Report) -> dict[str, Markup]:
    """Draw the charts of a report, by name. One that would show a single value is left out."""
    found = {
        "time": _time(report),
        "throughput": timeline(report),
        "nfe": _evaluations(report),
        "decisions": _decisions(report.decisions),
        "errors": _scatter(
            # A plan predicts the same for all its clips, of another output than the one measured.
            [point for point in report.errors if point.group != "planned"],
            "predicted change (RMS of the output)",
            "actual change (RMS of the output)",
            equal=True,
        ),
        "quality": _scatter(
            report.quality_by_nfe, "network evaluations (steps)", "PSNR to the control, dB"
        )
        if len({point.x for point in report.quality_by_nfe}) > 1
        else Markup(),
    }
    for score in report.good_clips.scores if report.good_clips else []:
        found[f"score-{score.name}"] = _histogram(score)
    return {name: drawn for name, drawn in found.items() if drawn}


def _time(report: Report) -> Markup:
    laps = [lap for lap in report.time if lap.device_s > 0]
    if not laps:
        return Markup()
    axis = Axis.over(0.0, max(lap.device_s for lap in laps) * 1.2)
    frame = Frame(
        ROW * len(laps),
        axis,
        "device-seconds",
        names=tuple((lap.name, ROW * (row + 0.5)) for row, lap in enumerate(laps)),
    )

    def marks() -> Iterator[Markup]:
        for row, lap in enumerate(laps):
            width = axis.share(lap.device_s)
            share = "beside" if lap.beside else f"{lap.share:.1%}"
            said = f"{lap.name}: {duration(lap.device_s)}, {share}"
            yield bar(0, width, ROW * row + 3.0, ROW - 6.0, 0, said, "b" if lap.beside else "")
            yield element(
                "text",
                share,
                x=percent(width),
                dx=6,
                y=ROW * (row + 0.5) + 4,
                class_="ink",
            )

    return frame.drawn(marks(), "Device time by activity")


def _evaluations(report: Report) -> Markup:
    bars = report.nfe
    if len(bars) < 2:
        return Markup()
    x = Axis.over(bars[0].nfe - 0.6, bars[-1].nfe + 0.6, whole=True)
    y = Axis.from_zero(max(each.clips for each in bars), whole=True)
    frame = Frame(220, x, "network evaluations (steps)", y, "clips")
    marks = (
        bar(
            x.share(each.nfe - 0.44),
            x.share(each.nfe + 0.44) - x.share(each.nfe - 0.44),
            frame.top(each.clips),
            frame.height - frame.top(each.clips),
            0,
            f"{counted(each.clips, 'clip', grouped=True)} with {counted(each.nfe, 'evaluation')}",
        )
        for each in bars
    )
    return frame.drawn(marks, "Clips by network evaluations")


def _decisions(lines: Sequence[Decisions]) -> Markup:
    if not lines:
        return Markup()
    wide = max(line.steps for line in lines)
    x = Axis.over(0.5, wide + 0.5, whole=True)
    names = (f"{line.policy} {line.nfe}/{line.steps}" for line in lines)
    frame = Frame(
        CELL * len(lines),
        x,
        "sampler step",
        names=tuple((name, CELL * (row + 0.5)) for row, name in enumerate(names)),
    )

    def marks() -> Iterator[Markup]:
        for row, line in enumerate(lines):
            step = 0
            for share, alike in groupby(line.computed):
                steps = len(list(alike))
                left, right = x.share(step + 0.5), x.share(step + steps + 0.5)
                until = f" to {step + steps}" if steps > 1 else ""
                yield element(
                    "rect",
                    element(
                        "title",
                        f"step {step + 1}{until}: computed in {share:.0%} of "
                        f"{counted(line.clips, 'clip', grouped=True)}",
                    ),
                    x=percent(left),
                    width=percent(right - left),
                    y=CELL * row + 1.0,
                    height=CELL - 3,
                    class_="c0 cell",
                    fill_opacity=f"{0.1 + 0.9 * share:.2f}",
                )
                step += steps

    return frame.drawn(marks(), "Share of clips that computed each step")


def _scatter(
    points: Sequence[ScatterPoint], x_title: str, y_title: str, *, equal: bool = False
) -> Markup:
    """Points in the colours of their groups; `equal` adds the line on which x is y."""
    if not points:
        return Markup()
    groups = sorted({point.group for point in points})
    xs, ys = [point.x for point in points], [point.y for point in points]
    if equal:
        x = y = Axis.from_zero(max(*xs, *ys))
    else:
        whole = all(value == round(value) for value in xs)
        room = max(1.0, 0.05 * (max(xs) - min(xs)))
        x = Axis.over(min(xs) - room, max(xs) + room, whole=whole)
        above = 0.08 * (max(ys) - min(ys)) or 1.0
        y = Axis.over(min(ys) - above, max(ys) + above, most=5)
    frame = Frame(260, x, x_title, y, y_title)
    many = len(points) > MANY_POINTS

    def marks() -> Iterator[Markup]:
        if equal:
            yield element("line", x1="0%", x2="100%", y1=frame.height, y2=0, class_="equal")
        for point in points:
            said = f"{point.sample_id}: {point.x:.4g}, {point.y:.4g} ({point.group})"
            yield element(
                "circle",
                Markup() if many else element("title", said),
                cx=percent(x.share(point.x)),
                cy=frame.top(point.y),
                r=2 if many else 4,
                class_=f"c{groups.index(point.group) % 6}",
            )

    return frame.drawn(marks(), f"{y_title} over {x_title}") + legend(groups)


def _histogram(score: ScoreSummary) -> Markup:
    if not score.clips or score.edges[0] == score.edges[-1]:
        return Markup()
    edges = score.edges
    x = Axis.over(edges[0], edges[-1], most=5)
    y = Axis.from_zero(max(score.counts), whole=True, most=4)
    frame = Frame(130, x, "", y, "clips")
    marks = (
        bar(
            x.share(low) + 0.001,
            x.share(high) - x.share(low) - 0.002,
            frame.top(clips),
            frame.height - frame.top(clips),
            0,
            f"{counted(clips, 'clip', grouped=True)} from {low:.3g} to {high:.3g}",
        )
        for low, high, clips in zip(edges, edges[1:], score.counts, strict=False)
        if clips
    )
    return frame.drawn(marks, f"Clips by {score.name}")
