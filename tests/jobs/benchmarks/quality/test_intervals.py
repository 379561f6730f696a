"""Statistics over clips."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.benchmarks.quality.intervals import (
    interval,
    paired,
    percentile_95,
    worst_decile,
)


def test_an_interval_is_that_of_the_normal_approximation_and_the_same_again() -> None:
    values = np.random.default_rng(1).normal(40.0, 5.0, 200)
    found = interval(list(values))
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx(half, rel=0.06)
    assert found.low < found.mean < found.high
    assert found == interval(list(values))


def test_equal_values_leave_no_doubt_and_no_values_are_refused() -> None:
    found = interval([3.0, 3.0, 3.0])
    assert (found.low, found.mean, found.high) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="at least one clip"):
        interval([])


def test_pairing_takes_the_clips_own_difficulty_out() -> None:
    easy_and_hard = [20.0, 60.0, 30.0, 50.0]
    better = [value + 1 for value in easy_and_hard]
    found = paired(better, easy_and_hard)
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))
    assert not found.is_tie
    assert paired([1.0, -1.0, 1.0, -1.0], [0.0] * 4).is_tie
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])


def test_tails() -> None:
    assert worst_decile([float(n) for n in range(20)]) == 0.5
    assert worst_decile([float(n) for n in range(11)]) == 0.5  # a tenth is rounded up
    assert worst_decile([7.0]) == 7.0
    assert percentile_95(list(range(1, 101))) == 95
    assert percentile_95([17] * 19 + [30]) == 17
    assert percentile_95([17] * 18 + [30, 30]) == 30
