"""Forecasts from distances, against the vectors that the distances are of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sencache.schedules.drift import Array
from sencache.schedules.weights import Forecast, best_weights, combined_error


def vectors(seed: int, steps: int = 7) -> Array:
    made: Array = np.random.default_rng(seed).normal(size=(steps, 12))
    return made


def distances(outputs: Array) -> Array:
    difference = outputs[:, None] - outputs[None]
    result: Array = (difference**2).mean(-1)
    return result


@given(st.integers(0, 500), st.sampled_from([(0,), (0, 2), (1, 3, 4), (0, 1, 4, 6)]))
def test_weights_are_the_least_squares_of_the_vectors(seed: int, anchors: tuple[int, ...]) -> None:
    outputs = vectors(seed)
    weights = best_weights(distances(outputs), anchors)
    assert weights.shape == (7, len(anchors))
    known, last = outputs[list(anchors[:-1])], outputs[anchors[-1]]
    for step, given_weights in enumerate(weights):
        # Weights that add up to 1: the last one is what the others leave.
        free = np.linalg.lstsq((known - last).T, outputs[step] - last, rcond=None)[0]
        assert given_weights == pytest.approx([*free, 1 - free.sum()], abs=1e-5)


def test_an_anchor_is_forecast_by_itself() -> None:
    weights = best_weights(distances(vectors(1)), (1, 4))
    assert weights[1] == pytest.approx([1, 0], abs=1e-6)
    assert weights[4] == pytest.approx([0, 1], abs=1e-6)


def test_anchors_that_are_alike_share_the_weight() -> None:
    outputs = vectors(2)
    outputs[1] = outputs[0]
    weights = best_weights(distances(outputs), (0, 1))
    assert weights == pytest.approx(np.full((7, 2), 0.5), abs=1e-6)


def test_errors_are_summed_as_vectors() -> None:
    """Two steps off by (2, 0) and (0, 1), moved by 3 and by -4: (6, -4), rms sqrt(26)."""
    outputs = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    weights = np.ones((2, 1))
    found = combined_error(distances(outputs), [1, 2], [0], weights, np.array([3.0, -4.0]))
    assert found == pytest.approx(np.sqrt(26.0))
    nothing = combined_error(distances(outputs), [0], [0], np.ones((1, 1)), np.array([5.0]))
    assert nothing == 0.0


def test_a_forecast_can_join_a_run_later() -> None:
    assert Forecast((0, 3), (-0.5, 1.5)).shifted(4) == Forecast((4, 7), (-0.5, 1.5))
