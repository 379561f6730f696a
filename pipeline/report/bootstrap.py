"""Bootstrap intervals of 95 % over pairs of clips. Equal values always give equal intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.report.base import Estimate

RESAMPLES = 2000
LEVEL = 95.0
FEW = 8
"""With fewer pairs a bootstrap interval is too narrow to be trusted; the report says so."""

BLOCKS = 1000
"""More pairs than this are summed into so many blocks of neighbours, and blocks are resampled. That
bounds memory, and with so many pairs the loss of precision is not visible."""

Floats = npt.NDArray[np.float64]


def ratio_of_sums(above: Floats, below: Floats, seed: int = 0) -> Estimate:
    """Estimate sum(above) / sum(below) by resampling pairs.

    Raises:
        ValueError: There are no pairs.
    """
    if not len(above):
        raise ValueError("a ratio needs at least one pair")
    draws = _resampled(np.stack([above, below], axis=1), seed)
    with np.errstate(divide="ignore"):  # a resample without any of the few counts is infinite
        low, high = _percentiles(draws[:, 0] / draws[:, 1])
    return Estimate(value=float(above.sum() / below.sum()), low=low, high=high)


def mean(values: Floats, seed: int = 0) -> Estimate:
    """Estimate the mean of values by resampling them.

    Raises:
        ValueError: There are no values.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value")
    low, high = _percentiles(_resampled(values[:, None], seed)[:, 0])
    return Estimate(value=float(values.mean()), low=low, high=high)


def rank_correlation(one: Floats, other: Floats, seed: int = 0) -> Estimate | None:
    """Estimate Spearman's rank correlation by resampling pairs of ranks.

    Returns:
        None if the values of either side are all equal.
    """
    a, b = ranks(one), ranks(other)
    if not len(a) or not np.ptp(a) or not np.ptp(b):
        return None
    a, b = a - a.mean(), b - b.mean()
    products = np.stack([a, b, a * a, b * b, a * b], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of equal values has none
        draws = _correlations(_resampled(products, seed))
    low, high = _percentiles(draws[np.isfinite(draws)])
    (value,) = _correlations(products.mean(axis=0)[None])
    return Estimate(value=float(value), low=low, high=high)


def ranks(values: Floats) -> Floats:
    """Ranks of values, from 0; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return np.asarray((last - (counts - 1) / 2)[which], np.float64)


def _correlations(moments: Floats) -> Floats:
    """Pearson's correlations of rows of means: x, y, their squares and their product."""
    x, y, xx, yy, xy = moments.T
    return np.asarray((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y)))


def _resampled(values: Floats, seed: int) -> Floats:
    """Return the means of resamples of rows, shape [RESAMPLES, columns]."""
    if len(values) > BLOCKS:
        blocks = np.array_split(values, BLOCKS)
        values = np.stack([block.sum(axis=0) for block in blocks]) / (len(values) / BLOCKS)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return np.asarray(values[draws].mean(axis=1))


def _percentiles(values: Floats) -> tuple[float, float]:
    """Return both ends of the interval that holds `LEVEL` percent of the resamples."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
