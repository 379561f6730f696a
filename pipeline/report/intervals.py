"""Intervals over pairs. The same values always give the same interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.report.document import Estimate

RESAMPLES = 2000
LEVEL = 95.0
FEW = 8
"""Below so many pairs a bootstrap interval is too narrow to be trusted, and the report says so."""

BLOCKS = 1000
"""More pairs than this are resampled in so many blocks of neighbours, which costs no precision that
anyone would see: there are then two digits of interval and three of value."""

Floats = npt.NDArray[np.float64]


def ratio_of_sums(above: Floats, below: Floats, seed: int = 0) -> Estimate:
    """sum(above) / sum(below), resampled by pairs.

    Raises:
        ValueError: No pairs.
    """
    if not len(above):
        raise ValueError("a ratio needs at least one pair")
    draws = _resampled(np.stack([above, below], axis=1), seed)
    low, high = _ends(draws[:, 0] / draws[:, 1])
    return Estimate(value=float(above.sum() / below.sum()), low=low, high=high)


def mean(values: Floats, seed: int = 0) -> Estimate:
    """Mean of values, resampled.

    Raises:
        ValueError: No values.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value")
    low, high = _ends(_resampled(values[:, None], seed)[:, 0])
    return Estimate(value=float(values.mean()), low=low, high=high)


def _resampled(values: Floats, seed: int) -> Floats:
    """Means of resamples, shape [RESAMPLES, columns]."""
    if len(values) > BLOCKS:
        blocks = np.array_split(values, BLOCKS)
        values = np.stack([block.sum(axis=0) for block in blocks]) / (len(values) / BLOCKS)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return np.asarray(values[draws].mean(axis=1))


def _ends(values: Floats) -> tuple[float, float]:
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
