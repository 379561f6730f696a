from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sencache.profiles.metadata import ProfileError
from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.weights import best_weights, combined_error

OUTPUTS = hnp.arrays(
    np.float64, st.tuples(st.integers(4, 9), st.just(5)), elements=st.floats(-3, 3, width=16)
)


def distances(outputs: Array) -> Array:
    difference = outputs[:, None] - outputs[None]
    result: Array = (difference**2).mean(-1)
    return result


def drift(outputs: Array) -> OutputDrift:
    return OutputDrift.of_outputs(np.linspace(1, 0.1, len(outputs)).tolist(), distances(outputs))


@given(OUTPUTS, st.data())
def test_the_error_of_any_forecast_follows_from_the_distances(
    outputs: Array, data: st.DataObject
) -> None:
    steps = len(outputs)
    anchors = sorted(data.draw(st.sets(st.integers(0, steps - 1), min_size=1, max_size=3)))
    targets = [step for step in range(steps) if step not in anchors]
    weights = np.array(
        data.draw(
            st.lists(
                st.lists(st.floats(-2, 2), min_size=len(anchors), max_size=len(anchors)),
                min_size=len(targets),
                max_size=len(targets),
            )
        )
    ).reshape(len(targets), len(anchors))
    weights[:, -1] = 1 - weights[:, :-1].sum(1)
    moves = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=len(targets), max_size=9)))
    moves = moves[: len(targets)]
    truth = (moves[:, None] * (outputs[targets] - weights @ outputs[anchors])).sum(0)
    told = combined_error(distances(outputs), targets, anchors, weights, moves)
    assert told == pytest.approx(np.sqrt((truth**2).mean()), abs=1e-5)


@given(OUTPUTS, st.integers(1, 3))
def test_the_best_weights_are_no_worse_than_hold_line_or_parabola(
    outputs: Array, count: int
) -> None:
    anchors, target = list(range(count)), count
    measured = distances(outputs)
    best = best_weights(measured, anchors)[target]
    assert best.sum() == pytest.approx(1.0)

    def error(weights: Array) -> float:
        return combined_error(measured, [target], anchors, weights[None], np.ones(1))

    rivals = {1: [[1.0]], 2: [[0, 1.0], [-1, 2.0]], 3: [[0, 0, 1.0], [0, -1, 2.0], [1, -3, 3.0]]}
    scale = np.sqrt(measured.max())
    for rival in rivals[count]:
        assert error(best) <= error(np.array(rival)) + 1e-3 * scale


def test_a_straight_line_is_forecast_exactly() -> None:
    direction = np.random.default_rng(0).normal(size=(1, 64))
    times = np.array([1.0, 0.9, 0.7, 0.35, 0.1])  # steps of different length
    measured = distances(times[:, None] * direction)
    weights = best_weights(measured, [0, 2])[3]
    slope = (0.35 - 0.7) / (0.7 - 1.0)
    assert weights == pytest.approx([-slope, 1 + slope], abs=1e-3)


@given(OUTPUTS)
def test_the_file_gives_back_what_was_written(outputs: Array) -> None:
    original = drift(outputs)
    assert OutputDrift.from_dict(json.loads(original.to_json())) == original


@given(OUTPUTS, st.integers(4, 20))
def test_other_steps_get_the_distances_of_the_outputs_between(outputs: Array, steps: int) -> None:
    times = np.linspace(1, 0.1, steps)
    known = np.linspace(1, 0.1, len(outputs))
    between = np.array([[np.interp(-t, -known, column) for column in outputs.T] for t in times])
    told = drift(outputs).at(times.tolist()).matrix()
    # Times and distances are kept to six digits, and between two steps, 0.11 apart or more, the
    # distance of unit outputs changes by up to 18 per unit of time: 2 x 18 x 5e-7.
    largest = distances(outputs).max()
    np.testing.assert_allclose(told, distances(between), rtol=0, atol=3e-5 * largest + 1e-12)


def test_the_same_steps_are_the_same_drift() -> None:
    original = drift(np.random.default_rng(0).normal(size=(5, 7)))
    assert original.at(original.tau) is original


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": (1.0, 0.5)}, "at least 3"),
        ({"tau": (1.0, 0.5, 0.5)}, "must fall"),
        ({"gain": (1.0, 1.0)}, "drift.gain must be 3"),
        ({"gain": (1.0, -1.0, 1.0)}, "drift.gain must be 3"),
        ({"distances": ((0.0, 1.0, 1.0),)}, "3 rows"),
        ({"distances": ((0.0, 1.0, float("nan")),) * 3}, r"distances\[0\]"),
    ],
)
def test_what_cannot_be_of_a_run_is_refused(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "tau": (1.0, 0.5, 0.2),
        "gain": (1.0, 1.0, 1.0),
        "distances": ((0.0, 1.0, 1.0),) * 3,
    }
    with pytest.raises(ProfileError, match=message):
        OutputDrift(**(fields | change))  # type: ignore[arg-type]


def test_measured_values_keep_their_first_digits() -> None:
    measured = np.array([[1.0, 2.0, -1.0], [2.0000002, 0.0, 1.23456789], [-1.0, 1.23456789, 5.0]])
    made = OutputDrift.of_outputs([0.98765432, 0.5, 0.1], measured, [1.23456, 2.0, 98765.4])
    assert made.tau == (0.987654, 0.5, 0.1)
    assert made.gain == (1.235, 2.0, 98770.0)
    # The mean of both halves; nothing below 0, and nothing from a step to itself.
    assert made.distances == ((0.0, 2.0, 0.0), (2.0, 0.0, 1.23457), (0.0, 1.23457, 0.0))
    assert OutputDrift.of_outputs([3, 2, 1], measured).gain == (1.0, 1.0, 1.0)
    assert repr(made) == "<OutputDrift of 3 steps, tau 0.987654 to 0.1>"


def test_beyond_the_measured_times_the_outermost_line_goes_on() -> None:
    known, wanted = np.array([0.9, 0.6, 0.2]), np.array([1.0, 0.75, 0.3, 0.1])
    outputs = np.array([[0.0, 3.0], [1.0, 1.0], [4.0, 0.0]])
    made = OutputDrift.of_outputs(known.tolist(), distances(outputs), [5.0, 3.0, 2.0])
    told = made.at(wanted.tolist())
    first = outputs[0] + (outputs[0] - outputs[1]) / 3  # 0.1 of 0.3 before the first
    second = (outputs[0] + outputs[1]) / 2
    third = outputs[1] / 4 + outputs[2] * 3 / 4
    last = outputs[2] + (outputs[2] - outputs[1]) / 4  # 0.1 of 0.4 after the last
    expected = distances(np.stack([first, second, third, last]))
    np.testing.assert_allclose(told.matrix(), expected, rtol=1e-6)
    assert told.gain == pytest.approx((5.0, 4.0, 2.25, 2.0))  # gains do not go on
    assert told.tau == (1.0, 0.75, 0.3, 0.1)


@pytest.mark.parametrize("times", [(0.5, 0.5, 0.1), (0.1, 0.5, 0.6), (0.9, 0.2, 0.4, 0.1)])
def test_times_that_do_not_fall_have_no_plan(times: tuple[float, ...]) -> None:
    made = drift(np.random.default_rng(0).normal(size=(5, 7)))
    with pytest.raises(ProfileError) as caught:
        made.at(times)
    assert str(caught.value) == "the times of the run do not fall from step to step: no plan for it"


def test_a_file_of_another_shape_is_refused() -> None:
    fields = {"tau": [1.0, 0.5, 0.2], "gain": [1, 1, 1], "distances": [[], [1.0], [2.0, 3.0]]}
    made = OutputDrift.from_dict(fields)
    assert made.distances == ((0.0, 1.0, 2.0), (1.0, 0.0, 3.0), (2.0, 3.0, 0.0))
    with pytest.raises(ProfileError) as caught:
        OutputDrift.from_dict(fields | {"distances": [[], [1.0], [2.0]]})
    assert str(caught.value) == "drift.distances[2] has 1 values, not 2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tau": (1.0, 0.5), "gain": (1.0,) * 2}, "drift has 2 steps; at least 3 are needed"),
        ({"tau": (1.0, 0.5, 0.5)}, "drift.tau must fall from step to step"),
        ({"gain": (1.0, 1.0)}, "drift.gain must be 3 finite numbers >= 0, one per step"),
        (
            {"distances": ((0.0, 1.0, 1.0), (0.0, -1.0, 1.0), (0.0, 1.0, 1.0))},
            "drift.distances[1] must be 3 finite numbers >= 0, one per step",
        ),
        ({"distances": ((0.0, 1.0, 1.0),) * 2}, "drift.distances must have 3 rows, one per step"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], said: str) -> None:
    fields: dict[str, object] = {
        "tau": (1.0, 0.5, 0.2),
        "gain": (1.0, 0.0, 1.0),
        "distances": ((0.0, 1.0, 1.0),) * 3,
    }
    OutputDrift(**fields)  # type: ignore[arg-type]
    with pytest.raises(ProfileError) as caught:
        OutputDrift(**(fields | change))  # type: ignore[arg-type]
    assert str(caught.value) == said
