"""Whole numbers of steps, against counting by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sencache.schedules.budget import check_room, computed_steps, least_computed


@pytest.mark.parametrize(
    ("budget", "steps", "computed"),
    [
        (0.34, 50, 17),
        (0.5, 7, 4),  # 3.5 is rounded to an even number, as Python does
        (0.5, 5, 2),
        (0.01, 50, 2),
        (0.0, 3, 2),
        (0.2, 2, 2),
        (0.2, 1, 1),
        (1.0, 30, 30),
        (1.2, 30, 30),
    ],
)
def test_a_budget_computes_so_many_steps(budget: float, steps: int, computed: int) -> None:
    assert computed_steps(budget, steps) == computed


@given(st.integers(3, 90), st.sets(st.integers(1, 88), max_size=3))
def test_the_fewest_steps_are_those_of_the_longest_jumps(steps: int, cuts: set[int]) -> None:
    """Jumps of 13 steps, with 12 forecast in between, from each step that must be computed."""
    must = sorted({step for step in cuts if step < steps - 1} | {steps - 1})
    at, count = 0, 1
    for end in must:
        while at < end:
            at = min(at + 13, end)
            count += 1
    assert least_computed(steps, must[:-1]) == count


def test_a_run_without_cuts_needs_both_ends() -> None:
    assert [least_computed(steps) for steps in (14, 15, 27, 28)] == [2, 3, 3, 4]


def test_a_gate_needs_seven_steps_and_room_above() -> None:
    check_room(3, 7, 20)
    check_room(3, 17, 20)
    for computed in (6, 18):
        with pytest.raises(ValueError, match="but the budget computes") as caught:
            check_room(3, computed, 20)
        assert str(caught.value) == (
            f"SenCacheConfig.gate is 3 but the budget computes {computed} of 20 steps; with this "
            "gate it can be 7 to 17"
        )
    with pytest.raises(ValueError, match="a gate of 3 needs a run of at least 10 steps"):
        check_room(3, 4, 9)
    check_room(3, 7, 10)
