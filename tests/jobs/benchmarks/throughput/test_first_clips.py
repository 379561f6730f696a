"""What first clips add is told from the engine seconds of the rows."""

from __future__ import annotations

import pytest

from jobs.benchmarks.throughput.first_clips import TimedRun, summary


def test_the_price_of_first_clips_is_what_they_take_longer_than_cached_ones() -> None:
    own = TimedRun("own", 60.0, first_s=8.0, first=4, others_s=0.5)
    shipped = TimedRun("shipped", 55.0, first_s=0.0, first=0, others_s=0.5)
    assert own.foreseen_s == pytest.approx(6.0)
    slow = TimedRun("own", 90.0, first_s=8.0, first=4, others_s=0.5)
    found = summary([shipped, own, shipped, slow, shipped, own], groups=2)
    assert found["more_s"] == pytest.approx(5.0)  # medians: one slow run does not count
    assert found["foreseen_s"] == pytest.approx(3.0)
    assert found["foreseen_most_s"] == pytest.approx(4.0)  # two rounds of 2 s, while all wait
