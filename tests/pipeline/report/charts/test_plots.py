"""Marks have the places and sizes of the report's numbers, and every text is only text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.report.charts.plots import charts
from pipeline.report.document import Bar, Report, ScatterPoint
from pipeline.report.pricing.prices import Prices
from pipeline.report.tables.document import Bucket, Stretch
from tests.pipeline.report.made import measure, row, write


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    rows = [row(number, nfe=4 + number % 2) for number in range(6)]
    return measure(write(tmp_path_factory.mktemp("plots"), rows), Prices())


def drawn(report: Report, name: str, **changed: Any) -> ElementTree.Element:
    """A chart of a report as a tree; fails unless it is well-formed."""
    return ElementTree.fromstring(f"<div>{charts(report.model_copy(update=changed))[name]}</div>")


def rects(chart: ElementTree.Element) -> list[tuple[float, float, float]]:
    """Left edge in percent, width in percent, and height in pixels of each bar."""
    return [
        (float(e.attrib["x"][:-1]), float(e.attrib["width"][:-1]), float(e.attrib["height"]))
        for e in chart.iter("rect")
    ]


def test_bars_are_as_high_as_their_counts(report: Report) -> None:
    bars = [Bar(nfe=10, clips=1), Bar(nfe=11, clips=4), Bar(nfe=14, clips=2)]
    (one, two, three) = rects(drawn(report, "nfe", nfe=bars))
    assert (two[2] / one[2], three[2] / one[2]) == pytest.approx((4, 2), rel=0.01)
    assert (three[0] - one[0]) / (two[0] - one[0]) == pytest.approx(4, rel=0.01)


def test_a_chart_of_a_single_value_is_left_out(report: Report) -> None:
    alone = report.model_copy(update={"nfe": [Bar(nfe=10, clips=3)], "throughput": []})
    assert not charts(alone).keys() & {"nfe", "throughput", "errors", "quality"}
    assert "decisions" in charts(alone)


def test_activities_are_as_wide_as_their_seconds(report: Report) -> None:
    laps = [lap for lap in report.time if lap.device_s]
    wide = [width for _, width, _ in rects(drawn(report, "time"))]
    longest = max(lap.device_s for lap in laps)
    shares = [lap.device_s / longest for lap in laps]
    assert [width / max(wide) for width in wide] == pytest.approx(shares, abs=0.002)


def test_decisions_cover_every_step(report: Report) -> None:
    found = rects(drawn(report, "decisions"))
    for line in range(2):
        mine = found[2 * line : 2 * line + 2]  # computed steps, then reused ones
        assert sum(width for _, width, _ in mine) == pytest.approx(100, abs=0.05)
        assert mine[0][1] == pytest.approx(10 * (4 + line), abs=0.05)


def test_pauses_between_runs_take_no_room_and_are_said(report: Report) -> None:
    stretches = [
        Stretch(start="2026-01-01T00:00:00Z", seconds=60, spans=2),
        Stretch(start="2026-01-01T05:00:00Z", seconds=30, spans=1),
    ]
    buckets = [
        Bucket(start="2026-01-01T00:00:00Z", node="a", clips=2, stretch=0, span=0),
        Bucket(start="2026-01-01T00:00:30Z", node="a", clips=1, stretch=0, span=1),
        Bucket(start="2026-01-01T00:00:30Z", node="b", clips=1, stretch=0, span=1),
        Bucket(start="2026-01-01T05:00:00Z", node="b", clips=4, stretch=1, span=0),
    ]
    chart = drawn(report, "throughput", stretches=stretches, throughput=buckets)
    first, second, above, last = rects(chart)
    thirds = [100 / 3 * number + 1 for number in range(3)]
    assert [first[0], second[0], last[0]] == pytest.approx(thirds, abs=0.05)
    assert above[:2] == second[:2]
    assert (second[2] / first[2], last[2] / first[2]) == pytest.approx((0.5, 2), abs=0.01)
    (said,) = [e.text for e in chart.iter("p") if e.attrib["class"] == "pauses"]
    assert said == (
        "Dotted lines are pauses, in which no run was up; the axis leaves them out: 4 h 59 min."
    )


def test_texts_are_escaped_and_many_points_are_small(report: Report) -> None:
    name = '<svg onload="x">&\'"'
    points = [ScatterPoint(sample_id=name, x=n, y=n % 7, group=name) for n in range(400)]
    few = drawn(report, "quality", quality_by_nfe=points[:9])
    assert any(name in (e.text or "") for e in few.iter("title"))
    assert not [e for e in few.iter() if "onload" in e.attrib]
    many = str(charts(report.model_copy(update={"quality_by_nfe": points}))["quality"])
    assert many.count("<circle") == 400
    assert len(many) < 40_000
    assert not re.search(r"<title>.*svg", many)


def test_a_report_without_clips_has_no_charts(tmp_path: Path) -> None:
    report = measure(write(tmp_path, [row(0, status="failed")]), Prices())
    assert charts(report).keys() <= {"time"}
