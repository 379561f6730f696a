"""Plans are compared clip by clip with the plans of the shipped profile, or with the rule."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.benchmarks.profiles.promise_differences import difference_table, differences
from jobs.benchmarks.quality.intervals import worst_decile


def row(source: str, nfe: float, psnr: list[float], sampler: str = "EulerScheduler") -> Any:
    return {"sampler": sampler, "steps": 50, "from": source, "nfe": nfe, "psnr_per_clip": psnr}


HARD_AND_EASY = [30.0, 40.0, 50.0, 60.0]


def test_clips_are_compared_with_themselves() -> None:
    better = [each + 2.0 for each in HARD_AND_EASY]
    rows = [row("shipped profile", 21, HARD_AND_EASY), row("4 clips alone", 21, better)]
    (found,) = differences(rows)
    assert (found.source, found.reference) == ("4 clips alone", "shipped profile")
    # Every clip is better by 2 dB, so no resampling of clips gives anything else.
    assert [found.mean.low, found.mean.high] == pytest.approx([2.0, 2.0])
    assert [found.tenth.low, found.tenth.high] == pytest.approx([2.0, 2.0])


def test_the_worst_tenth_has_an_interval_of_its_own() -> None:
    reference = [float(each) for each in range(20, 60)]
    changed = [reference[0] - 5.0, *reference[1:]]
    (found,) = differences([row("shipped profile", 13, reference), row("prior", 13, changed)])
    assert found.tenth.mean == pytest.approx(worst_decile(changed) - worst_decile(reference))
    assert found.tenth.mean == pytest.approx(-5.0 / 4)  # one of the four worst of 40 clips
    assert found.tenth.low < found.tenth.mean < found.tenth.high == 0.0
    assert found.mean.mean == pytest.approx(-5.0 / 40)


def test_only_the_same_point_of_the_same_sampler_is_compared() -> None:
    rows = [
        row("shipped profile", 21, HARD_AND_EASY),
        row("prior", 13, HARD_AND_EASY),
        row("prior", 21, HARD_AND_EASY, sampler="UniPCScheduler"),
    ]
    assert differences(rows) == []
    assert difference_table(rows) == ""


def test_the_rule_is_compared_at_the_point_that_it_was_tuned_to() -> None:
    rows = [row("prior", 21, HARD_AND_EASY), row("paper's rule", 20.8, [20.0, 30.0, 40.0, 50.0])]
    (found,) = differences(rows)
    assert found.mean.mean == pytest.approx(10.0)
    assert difference_table(rows).splitlines()[2] == (
        "| Euler 50, prior | 21 | paper's rule | +10.0 [+10.0, +10.0] | +10.0 [+10.0, +10.0] |"
    )
