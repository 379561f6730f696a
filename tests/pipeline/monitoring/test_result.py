"""A run says at its end how many clips are good, and what a good one cost."""

from __future__ import annotations

from pipeline.monitoring.result import yield_text
from pipeline.monitoring.totals import RunTotals


def test_without_a_condition_nothing_is_said() -> None:
    assert yield_text(RunTotals(ok=3, gpu_s=6.0), 3.0) == ""


def test_everything_that_was_spent_is_in_the_cost_of_a_good_clip() -> None:
    # Two of four clips are good; a control and a failed attempt are paid for too.
    totals = RunTotals(
        ok=5, controls=1, gpu_s=30.0, control_gpu_s=10.0, wasted_gpu_s=6.0, good=2, not_good=2
    )
    assert yield_text(totals, None) == "2 of 4 clips (50%); 18.00 device seconds a good clip"
    assert yield_text(totals, 3600.0).endswith("; 18.00 device seconds, $18.00 a good clip")


def test_clips_without_a_verdict_are_counted_apart() -> None:
    totals = RunTotals(ok=5, gpu_s=5.0, good=0, not_good=2)
    assert yield_text(totals, 1.0) == (
        "0 of 2 clips (0%), 3 not judged because scores are missing (scores_missing)"
    )
