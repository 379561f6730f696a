"""Means over clips with bootstrap intervals, tails and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over clips and its bootstrap interval of 95 %.

    Attributes:
        mean: Over clips.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def is_tie(self) -> bool:
        """Whether the interval of a difference contains 0."""
        return self.low <= 0.0 <= self.high


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Return mean and percentile bootstrap over clips; equal values give equal intervals.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values: an interval needs at least one clip")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(array[draws].mean(axis=1), [tail, 100 - tail])
    return Interval(float(array.mean()), float(low), float(high))


def paired(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the interval of values - others, clip by clip; common difficulty cancels."""
    return interval([a - b for a, b in zip(values, others, strict=True)])


def paired_worst_decile(
    values: Sequence[float], others: Sequence[float], seed: int = 0
) -> Interval:
    """Return the difference of two worst tenths and its bootstrap interval over clips.

    The same clips are drawn for both, so that their common difficulty cancels.

    Args:
        values: One value per clip.
        others: Of the same clips, in the same order.
        seed: Of the resampling.

    Raises:
        ValueError: There are no values, or the two do not have the same length.
    """
    if not values or len(values) != len(others):
        raise ValueError(f"{len(values)} and {len(others)} values: both need one per clip")
    both = np.asarray([values, others], dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, both.shape[1], (RESAMPLES, both.shape[1]))
    lowest = np.sort(both[:, draws], axis=2)[:, :, : math.ceil(both.shape[1] / 10)].mean(axis=2)
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(lowest[0] - lowest[1], [tail, 100 - tail])
    return Interval(worst_decile(values) - worst_decile(others), float(low), float(high))


def worst_decile(values: Sequence[float]) -> float:
    """Return the mean of the lowest tenth, rounded up to whole clips."""
    worst = sorted(values)[: max(1, math.ceil(len(values) / 10))]
    return sum(worst) / len(worst)


def percentile_95(values: Sequence[float]) -> float:
    """Return the smallest value that at least 95 % of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(0.95 * len(values)) - 1)]
