from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs.benchmarks.sampling.denoising_loop import Arm, DenoisingLoop
from jobs.benchmarks.sampling.paired import compare_costs, take_turns


def test_a_ratio_is_the_median_of_ratios_within_a_repeat() -> None:
    # The machine slows down fourfold between repeats, and one pass is disturbed.
    control, half = [1.0, 2.0, 4.0], [0.5, 1.0, 40.0]
    first, second = compare_costs(["none", "half"], [control, half], [50.0, 20.0], 50)
    assert (first.ratio, first.ideal, first.efficiency, first.cost_percent) == (1, 1, 1, 0)
    assert second.ratio == 2.0
    assert second.ideal == 2.5
    assert second.efficiency == pytest.approx(0.8)
    assert second.wall_s == 1.0
    assert (second.ratio_low, second.ratio_high) == pytest.approx((1.05, 2.0))


def test_cost_is_what_the_loop_takes_longer() -> None:
    _, dear = compare_costs(["none", "dear"], [[1.0], [1.25]], [50.0, 50.0], 50)
    assert dear.cost_percent == pytest.approx(25.0)
    assert dear.efficiency == pytest.approx(0.8)
    assert dear.ratio_low == dear.ratio_high == dear.ratio


def test_arms_take_turns_in_every_position() -> None:
    ran: list[str] = []

    def run(arm: Arm) -> Any:
        ran.append(arm.name)
        return len(ran)

    loop = cast(DenoisingLoop, SimpleNamespace(run=run))
    passes = take_turns(loop, [Arm("a"), Arm("b"), Arm("c")], 3)
    assert "".join(ran) == "abc" + "abc" + "bca" + "cab"
    assert [[ran[one - 1] for one in cast(list[Any], own)] for own in passes] == [
        ["a"] * 3,
        ["b"] * 3,
        ["c"] * 3,
    ]
