"""Rank correlations against numpy's correlation of ranks, and intervals against Fisher's."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.bootstrap import rank_correlation, ranks


def places(values: list[float]) -> list[float]:
    """Mean position of each value among the sorted ones."""
    row = sorted(values)
    return [row.index(value) + (row.count(value) - 1) / 2 for value in values]


def test_rank_correlation_is_spearman_s_with_ties_and_an_interval_that_holds_it() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 30, 400).astype(np.float64)
    other = one + rng.normal(0, 12, 400).round()
    found = rank_correlation(one, other)
    assert found is not None
    assert ranks(one).tolist() == places(one.tolist())
    value = np.corrcoef(places(one.tolist()), places(other.tolist()))[0, 1]
    assert found.value == pytest.approx(value)
    low, high = np.tanh(np.arctanh(value) + np.array([-1.96, 1.96]) / np.sqrt(397))
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_equal_values_have_no_rank_correlation() -> None:
    some, equal = np.arange(5.0), np.full(5, 2.0)
    assert rank_correlation(some, equal) is None
    assert rank_correlation(equal, some) is None
    assert rank_correlation(some[:1], some[:1]) is None
    found = rank_correlation(some, -some)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((-1, -1, -1))
