"""Plans against exhaustive search on small runs, where every schedule can be tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sencache.schedules.budget import computed_steps
from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.planner import make_schedule, schedule_of

STEPS = 8


def smooth_outputs(seed: int, steps: int = STEPS) -> Array:
    """Outputs on a bent path, as a network's are, with a little roughness."""
    random = np.random.default_rng(seed)
    times = np.linspace(1, 0.1, steps)[:, None]
    path: Array = sum(random.normal(size=(1, 16)) * times**power for power in range(4))
    return path + 0.02 * random.normal(size=(steps, 16))


def drift_of(outputs: Array, gain: list[float] | None = None) -> OutputDrift:
    difference = outputs[:, None] - outputs[None]
    taus = np.linspace(1, 0.1, len(outputs)).tolist()
    return OutputDrift.of_outputs(taus, (difference**2).mean(-1), gain)


@settings(max_examples=40)
@given(
    st.integers(0, 1000),
    st.integers(2, STEPS),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([(), (3,), (2, 5)]),
    st.booleans(),
)
def test_no_schedule_of_as_many_steps_is_better(
    seed: int, computed: int, order: int, repair: bool, cuts: tuple[int, ...], free_end: bool
) -> None:
    drift = drift_of(smooth_outputs(seed), gain=[2.0] * 3 + [1.0] * 5)
    moves = [0.1 + 0.02 * step for step in range(STEPS)]
    if computed < 2 + len(cuts):
        with pytest.raises(ValueError, match="can be"):
            make_schedule(drift, moves, computed, cuts=cuts)
        return
    schedule = make_schedule(
        drift, moves, computed, order=order, repair=repair, cuts=cuts, free_end=free_end
    )
    must = {0, *cuts} if free_end else {0, STEPS - 1, *cuts}
    assert len(schedule.computed) == computed
    assert must <= set(schedule.computed)
    inner = [step for step in range(STEPS) if step not in must]
    best = min(
        schedule_of(
            drift,
            moves,
            sorted({*must, *chosen}),
            order=order,
            repair=repair,
            cuts=cuts,
        ).error
        for chosen in itertools.combinations(inner, computed - len(must))
    )
    assert schedule.error == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("repair", [True, False])
def test_the_predicted_error_is_that_of_a_sampler_on_the_outputs(repair: bool) -> None:
    """Without a network in the loop only the repair's hidden share cannot be seen."""
    outputs = smooth_outputs(3, 20)
    moves = np.linspace(0.02, 0.1, 20)
    schedule = make_schedule(drift_of(outputs), moves.tolist(), 9, repair=repair)
    given_outputs = outputs.copy()
    for step, forecast in schedule.forecasts.items():
        assert set(forecast.anchors) <= set(schedule.computed)
        assert sum(forecast.weights) == pytest.approx(1.0)
        given_outputs[step] = np.array(forecast.weights) @ outputs[list(forecast.anchors)]
    error = np.sqrt(((moves @ (given_outputs - outputs)) ** 2).mean())
    if repair:
        assert error < schedule.error
        plain = schedule_of(drift_of(outputs), moves.tolist(), schedule.computed, repair=False)
        assert error < plain.error / 2
    else:
        assert error < 2 * schedule.error  # gaps are summed as if they were independent


def test_nothing_is_forecast_or_mended_across_a_cut() -> None:
    schedule = make_schedule(drift_of(smooth_outputs(1, 20)), [0.05] * 20, 8, cuts=(11,))
    assert 11 in schedule.computed
    assert 11 not in schedule.forecasts
    for step, forecast in schedule.forecasts.items():
        assert all((anchor < 11) == (step < 11) for anchor in forecast.anchors)


def test_all_steps_computed_is_no_cache() -> None:
    drift = drift_of(smooth_outputs(1))
    schedule = make_schedule(drift, [0.1] * STEPS, STEPS)
    assert (schedule.computed, schedule.forecasts, schedule.error) == (tuple(range(STEPS)), {}, 0.0)


def test_every_computed_step_after_the_first_can_be_checked() -> None:
    outputs = smooth_outputs(2, 20)
    schedule = make_schedule(drift_of(outputs), [0.05] * 20, 8, cuts=(11,))
    assert sorted(schedule.checks) == [step for step in schedule.computed if step not in (0, 11)]
    for step, (forecast, expected) in schedule.checks.items():
        missed = outputs[step] - np.array(forecast.weights) @ outputs[list(forecast.anchors)]
        assert np.sqrt((missed**2).mean()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_plan_can_join_a_schedule_late() -> None:
    schedule = make_schedule(drift_of(smooth_outputs(2)), [0.1] * STEPS, 4)
    late = schedule.after(5)
    assert (late.steps, late.computed) == (STEPS + 5, tuple(c + 5 for c in schedule.computed))
    for step, forecast in schedule.forecasts.items():
        assert late.forecasts[step + 5].weights == forecast.weights
        assert late.forecasts[step + 5].anchors == tuple(a + 5 for a in forecast.anchors)


def test_a_longer_step_is_computed_rather_than_a_shorter_one() -> None:
    drift = drift_of(smooth_outputs(5, 12))
    moves = [0.01] * 6 + [0.2] * 6
    late = make_schedule(drift, moves, 7)
    early = make_schedule(drift, moves[::-1], 7)
    assert sum(late.computed) > sum(early.computed)


@pytest.mark.parametrize(
    ("budget", "steps", "computed"), [(0.4, 50, 20), (1.0, 50, 50), (0.01, 50, 2), (0.5, 1, 1)]
)
def test_a_budget_is_a_whole_number_of_steps(budget: float, steps: int, computed: int) -> None:
    assert computed_steps(budget, steps) == computed


@pytest.mark.parametrize("computed", [0, 1, STEPS + 1])
def test_impossible_budgets_are_told(computed: int) -> None:
    with pytest.raises(ValueError, match=f"cannot compute {computed} of {STEPS} steps"):
        make_schedule(drift_of(smooth_outputs(0)), [0.1] * STEPS, computed)


def test_a_plan_begins_at_the_beginning() -> None:
    with pytest.raises(ValueError, match="step 0 first"):
        schedule_of(drift_of(smooth_outputs(0)), [0.1] * STEPS, [1, 7])
