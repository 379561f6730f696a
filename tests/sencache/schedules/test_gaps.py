"""What a gap costs and what the sampler gets in it, against the outputs themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.gaps import MAX_REPAIR, Gaps

STEPS = 9
MOVES = [0.1, 0.2, 0.15, 0.3, 0.1, 0.25, 0.2, 0.1, 0.3]
GAIN = [3.0, 2.5, 2.5, 2.0, 2.0, 1.5, 1.5, 1.0, 1.0]


def outputs_of(seed: int) -> Array:
    random = np.random.default_rng(seed)
    times = np.linspace(1, 0.1, STEPS)[:, None]
    made: Array = sum(random.normal(size=(1, 16)) * times**power for power in range(4))
    return made + 0.05 * random.normal(size=(STEPS, 16))


def gaps_of(outputs: Array, repair: bool = True, moves: list[float] = MOVES) -> Gaps:
    difference = outputs[:, None] - outputs[None]
    taus = np.linspace(1, 0.1, STEPS).tolist()
    drift = OutputDrift.of_outputs(taus, (difference**2).mean(-1), GAIN)
    return Gaps(drift, moves, order=1, repair=repair)


def rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def moved(outputs: Array, gaps: Gaps, anchors: tuple[int, ...], steps: range) -> float:
    """How far forecasts from anchors leave the final latents from where they should be."""
    known = gaps.forecasts(anchors, steps.stop)
    total = np.zeros(outputs.shape[1])
    for step in steps:
        forecast = np.array(known[step].weights) @ outputs[list(anchors)]
        total += MOVES[step] * GAIN[step] * (forecast - outputs[step])
    return rms(total)


@given(st.integers(0, 200))
def test_a_gap_without_a_repair_costs_the_square_of_its_error(seed: int) -> None:
    outputs = outputs_of(seed)
    gaps = gaps_of(outputs)
    error = moved(outputs, gaps, (0, 2), range(3, 6))
    assert gaps.cost((0, 2), 6, whole=False) == pytest.approx(error**2, rel=1e-3, abs=1e-7)
    without = gaps_of(outputs, repair=False)
    assert without.cost((0, 2), 6, whole=True) == pytest.approx(error**2, rel=1e-3, abs=1e-7)


@given(st.integers(0, 200))
def test_a_repaired_gap_costs_the_interpolation_and_a_fifth_of_the_forecast(seed: int) -> None:
    outputs = outputs_of(seed)
    gaps = gaps_of(outputs)
    forecast = moved(outputs, gaps, (0, 2), range(3, 6))
    # The step that ends the gap is one anchor more for the steps in it.
    weights = {step: gaps._all((0, 2, 6), range(step, step + 1))[0] for step in range(3, 6)}
    total = sum(
        MOVES[step] * GAIN[step] * (weights[step] @ outputs[[0, 2, 6]] - outputs[step])
        for step in range(3, 6)
    )
    wanted = rms(np.asarray(total)) ** 2 + (0.2 * forecast) ** 2
    assert gaps.cost((0, 2), 6, whole=True) == pytest.approx(wanted, rel=1e-3, abs=1e-7)


def test_a_gap_of_no_step_costs_nothing() -> None:
    assert gaps_of(outputs_of(0)).cost((0, 2), 3, whole=True) == 0.0


def test_a_repair_moves_the_latents_to_where_the_interpolation_puts_them() -> None:
    outputs = outputs_of(3)
    gaps = gaps_of(outputs)
    anchors, end = (1, 3), 7
    repaired = gaps.repaired(anchors, end)
    assert repaired is not None
    assert repaired.anchors == (1, 3, 7)
    assert sum(repaired.weights) == pytest.approx(1.0)
    got = MOVES[end] * (np.array(repaired.weights) @ outputs[[1, 3, 7]])
    for step, forecast in gaps.forecasts(anchors, end).items():
        got += MOVES[step] * (np.array(forecast.weights) @ outputs[list(anchors)])
    wanted = MOVES[end] * outputs[end]
    for step in range(4, 7):
        weights = gaps._all((1, 3, 7), range(step, step + 1))[0]
        wanted += MOVES[step] * (weights @ outputs[[1, 3, 7]])
    assert got == pytest.approx(wanted, abs=1e-9)


def test_nothing_is_repaired_where_it_cannot_or_need_not_be() -> None:
    outputs = outputs_of(3)
    assert gaps_of(outputs, repair=False).repaired((1, 3), 7) is None
    assert gaps_of(outputs).repaired((1, 3), 4) is None
    # Steps 4 to 6 move by 6 in all; the last step by exactly as much as a repair may need, or less.
    for last, possible in ((6 / MAX_REPAIR, True), (0.99 * 6 / MAX_REPAIR, False)):
        moves = [0.1, 0.1, 0.1, 0.1, 2.0, -2.0, 2.0, -last, 0.1]
        gaps = gaps_of(outputs, moves=moves)
        assert (gaps.repaired((1, 3), 7) is not None) == possible
        same = gaps.cost((1, 3), 7, whole=True) == gaps.cost((1, 3), 7, whole=False)
        assert same != possible


def test_a_check_says_how_far_the_forecast_is_off() -> None:
    outputs = outputs_of(4)
    forecast, expected = gaps_of(outputs).check((0, 2), 5)
    assert forecast.anchors == (0, 2)
    missed = outputs[5] - np.array(forecast.weights) @ outputs[[0, 2]]
    assert expected == pytest.approx(rms(missed), rel=1e-4)


def test_an_order_below_zero_is_refused() -> None:
    drift = OutputDrift((1.0, 0.5, 0.1), (1.0,) * 3, ((0.0,) * 3,) * 3)
    Gaps(drift, [0.1] * 3, 0, True)
    with pytest.raises(ValueError, match=r"order is -1; it must be 0 \(hold\) or more"):
        Gaps(drift, [0.1] * 3, -1, True)
