"""Clips over time: every clip is counted once, and no span reaches into a pause between runs."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.rows import RowRoles, read_rows
from pipeline.report.tables.spans import throughput
from tests.pipeline.report.made import row, write

BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def clip(number: int, run: str, ended_s: float, wall: float = 10.0) -> dict[str, Any]:
    return row(number, run=run, wall=wall) | {
        "created_at": BEGAN + datetime.timedelta(seconds=ended_s)
    }


def spans(folder: Path, rows: list[dict[str, Any]]) -> Any:
    found = read_rows(write(folder, rows))
    return throughput(found, RowRoles.of(found))


def test_a_pause_between_runs_is_no_time(tmp_path: Path) -> None:
    first = [clip(n, "r1", 10 + 10 * n) for n in range(12)]
    second = [clip(20 + n, "r2", 10_010 + 10 * n) for n in range(6)]
    span, stretches, buckets = spans(tmp_path, [*first, *second])
    assert [(each.start, each.seconds) for each in stretches] == [
        ("2026-01-01T00:00:00Z", 120),
        ("2026-01-01T02:46:40Z", 60),
    ]
    assert span == 60
    assert [each.spans for each in stretches] == [2, 1]
    assert [(b.stretch, b.span, b.clips) for b in buckets] == [(0, 0, 6), (0, 1, 6), (1, 0, 6)]
    assert [b.start[11:] for b in buckets] == ["00:00:00Z", "00:01:00Z", "02:46:40Z"]


def test_runs_at_the_same_time_are_one_stretch(tmp_path: Path) -> None:
    rows = [clip(0, "r1", 10), clip(1, "r1", 500), clip(2, "r2", 300), clip(3, "r3", 495)]
    _, stretches, buckets = spans(tmp_path, rows)
    assert [each.seconds for each in stretches] == [500]
    assert sum(each.clips for each in buckets) == 4


def test_nothing_was_made(tmp_path: Path) -> None:
    assert spans(tmp_path, [row(0, status="failed")]) == (0.0, [], [])


clips = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.floats(0, 5e3)), min_size=1, max_size=30
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(clips)
def test_every_clip_is_in_a_span_of_its_stretch(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, float, float]]
) -> None:
    rows = [clip(n, run, 5e3 + ended, wall) for n, (run, ended, wall) in enumerate(made)]
    _, stretches, buckets = spans(tmp_path_factory.mktemp("spans"), rows)
    assert sum(each.clips for each in buckets) == len(made)
    assert all(0 <= each.span < stretches[each.stretch].spans for each in buckets)
    starts = [datetime.datetime.fromisoformat(each.start).timestamp() for each in stretches]
    for at, start in enumerate(starts[1:]):
        assert start >= starts[at] + stretches[at].seconds - 1  # starts are whole seconds
