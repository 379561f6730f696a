"""Bisection of a parameter."""

from __future__ import annotations

import math

import pytest

from jobs.benchmarks.quality.tuning import MAX_EVALUATIONS, TOLERANCE, TunedParameter


def smooth(parameter: float) -> float:
    """From 50 at 0 down to 13, half-way at 0.1."""
    return 13 + 37 / (1 + (parameter / 0.1) ** 1.5)


@pytest.mark.parametrize("low", [0.0, 1e-3])
@pytest.mark.parametrize("wanted", [45, 33, 25, 21, 17])
def test_a_point_of_a_smooth_method_is_hit(low: float, wanted: float) -> None:
    parameter = TunedParameter(smooth, low, 30.0)
    value, nfe = parameter.find(wanted)
    assert abs(nfe - wanted) <= TOLERANCE
    assert nfe == smooth(value)
    assert len(parameter.known) <= MAX_EVALUATIONS + 2


def test_measurements_are_shared_by_points() -> None:
    calls: list[float] = []

    def measure(value: float) -> float:
        calls.append(value)
        return smooth(value)

    parameter = TunedParameter(measure, 1e-3, 30.0)
    for wanted in (33, 25, 21, 17):
        parameter.find(wanted)
    assert len(calls) == len(set(calls))
    first = len(calls)
    parameter.find(25)
    assert len(calls) == first


def test_the_nearest_step_of_a_coarse_method_is_taken() -> None:
    parameter = TunedParameter(lambda value: 30.0 if value < 0.2 else 20.0, 0.0, 1.0)
    value, nfe = parameter.find(24)
    assert nfe == 20
    assert value >= 0.2
    assert parameter.find(26)[1] == 30


def test_what_is_out_of_reach_costs_no_search() -> None:
    parameter = TunedParameter(lambda value: max(20.0, 50 - 30 * value), 0.0, 2.0)
    assert parameter.find(13)[1] == 20
    assert len(parameter.known) <= 3
    assert parameter.find(51)[1] == 50


def test_of_equal_knobs_the_smallest_is_taken() -> None:
    parameter = TunedParameter(lambda value: 20.0, 0.5, 2.0)
    assert parameter.find(20) == (0.5, 20.0)


def test_a_method_that_is_not_monotonous_ends_the_search() -> None:
    parameter = TunedParameter(lambda value: 30 + 5 * math.sin(20 * value), 0.0, 1.0)
    assert parameter.find(31)[1] == pytest.approx(31, abs=5)
    assert len(parameter.known) <= MAX_EVALUATIONS + 2
