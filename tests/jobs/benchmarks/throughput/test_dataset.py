"""Runs of one size are summed up by medians, so that one slow start does not count."""

from __future__ import annotations

from jobs.benchmarks.throughput.dataset import medians


def test_the_middle_of_three_runs_is_told_with_the_span_of_first_clips() -> None:
    runs = [
        {"first_s": first, "after_ready_s": after, "counted_s": counted}
        for first, after, counted in ((9.0, 0.05, None), (40.0, 0.03, None), (10.0, 0.20, None))
    ]
    found = medians(runs)
    assert (found["first_s"], found["after_ready_s"]) == (10.0, 0.05)
    assert found["after_ready_from_to_s"] == [0.03, 0.20]
    assert (found["counted_s"], found["runs"]) == (None, 3)


def test_a_value_that_some_runs_lack_is_the_middle_of_the_others() -> None:
    runs = [{"after_ready_s": 0.1, "counted_s": counted} for counted in (None, 4.0, 2.0)]
    assert medians(runs)["counted_s"] == 3.0
