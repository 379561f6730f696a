"""Ticks are few, even, inside the axis and told apart; values keep their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts.axes import Axis

values = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(values, values, st.booleans(), st.integers(2, 8))
def test_ticks_are_few_even_and_inside(one: float, other: float, whole: bool, most: int) -> None:
    low, high = sorted((one, other))
    if whole:
        low, high = round(low), round(high)
    axis = Axis.over(low, high, whole=whole, most=most)
    assert axis.low <= low <= high <= axis.high
    assert len(axis.ticks) <= most + 1
    room = 1e-6 * (axis.high - axis.low) + 1e-6 * axis.step
    assert all(axis.low - room <= tick <= axis.high + room for tick in axis.ticks)
    if whole:
        assert all(tick == pytest.approx(round(tick)) for tick in axis.ticks)


@given(st.floats(1e-4, 1e9), st.integers(2, 8))
def test_an_axis_from_zero_ends_with_a_tick(high: float, most: int) -> None:
    axis = Axis.from_zero(high, most=most)
    assert axis.ticks[0] == 0
    assert axis.ticks[-1] == pytest.approx(axis.high)
    assert axis.high >= high * (1 - 1e-9)
    texts = [axis.text(tick) for tick in axis.ticks]
    assert len(set(texts)) == len(texts)
    assert [float(text.replace(",", "")) for text in texts] == pytest.approx(axis.ticks)


@pytest.mark.parametrize(
    ("low", "high", "whole", "texts"),
    [
        (0, 10, False, ["0", "2", "4", "6", "8", "10"]),
        (0.5, 50.5, True, ["10", "20", "30", "40", "50"]),
        (16, 18, True, ["16", "17", "18"]),
        (0, 0.06, False, ["0.00", "0.01", "0.02", "0.03", "0.04", "0.05", "0.06"]),
        (17, 17, True, ["17"]),
        (0, 20_000, False, ["0", "5,000", "10,000", "15,000", "20,000"]),
    ],
)
def test_ticks_by_hand(low: float, high: float, whole: bool, texts: list[str]) -> None:
    axis = Axis.over(low, high, whole=whole)
    assert [axis.text(tick) for tick in axis.ticks] == texts
