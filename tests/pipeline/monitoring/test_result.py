"""A run says at its end how many clips are good, and what a good one cost."""

from __future__ import annotations

from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.monitoring.result import say_result, yield_text
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


def test_the_controls_of_an_interrupted_run_come_with_the_same_command() -> None:
    totals = RunTotals(ok=1, gpu_s=1.0, planned=1, promised_squares=0.01**2)
    for interrupted, fraction in ((True, 0.5), (False, 0.5), (True, 0.0)):
        console = Console(record=True, width=200)
        config = RunConfig(prompts="p", output="o", control_fraction=fraction)
        say_result(console, config, totals, interrupted)
        said = console.export_text()
        assert ("the controls come with the same command" in said) == (interrupted and fraction > 0)


def test_attempts_that_failed_are_told_though_every_clip_was_made() -> None:
    config = RunConfig(prompts="p", output="o")
    console = Console(record=True, width=200)
    say_result(console, config, RunTotals(ok=4, failed_attempts=4), False)
    assert "4 failed: an error, or a process died" in console.export_text()
    console = Console(record=True, width=200)
    say_result(console, config, RunTotals(ok=4), False)
    assert "attempts" not in console.export_text()
