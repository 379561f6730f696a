"""What arms cost and gain, by hand."""

from __future__ import annotations

import math

import pytest

from jobs.benchmarks.candidates.prompt_costs import summaries

UNCACHED = [[[50, 2.0, 1.6, 0.75, False]], [[50, 2.0, 1.6, 0.95, True]]] * 10
CHOSEN = [
    [[8, 0.3, 0.2, 0.7, False], [8, 0.3, 0.2, 0.9, True], [17, 0.9, 0.6, 0.95, True]],
    [[8, 0.3, 0.2, 0.9, True], [8, 0.3, 0.2, 0.9, True], [17, 0.9, 0.6, 0.95, True]],
] * 10


def test_everything_that_was_made_for_a_prompt_is_paid_and_its_last_clip_counts() -> None:
    first, second = summaries({"uncached": UNCACHED, "chosen": CHOSEN}, price=0.36)
    assert (first.nfe, second.nfe) == (50.0, 33.0)
    assert (first.good.mean, second.good.mean) == (0.5, 1.0)
    assert second.cpu_ratio.mean == pytest.approx(1.5 / 2.0)
    assert second.denoise_ratio.mean == pytest.approx(1.0 / 1.6)
    assert first.nfe_per_good.mean == pytest.approx(100.0)
    assert second.nfe_per_good.mean == pytest.approx(33.0)
    assert first.cpu_s_per_good.mean == pytest.approx(4.0)
    assert first.dollars_per_good.mean == pytest.approx(1000 * 4.0 * 0.36 / 3600)
    assert second.score_gain.mean == pytest.approx(0.1)
    assert 0 < second.score_gain.low < 0.1 < second.score_gain.high
    assert (first.score_gain.low, first.score_gain.high) == (0.0, 0.0)
    # Every prompt of the second arm is good and costs the same, so its cost is certain.
    assert second.cpu_s_per_good.low == pytest.approx(second.cpu_s_per_good.high)
    assert first.cpu_s_per_good.low < 4.0 < first.cpu_s_per_good.high


def test_without_a_good_clip_one_costs_infinitely_much() -> None:
    (found,) = summaries({"bad": [[[50, 2.0, 1.6, 0.1, False]]] * 3}, price=1.0)
    assert math.isinf(found.cpu_s_per_good.mean)
