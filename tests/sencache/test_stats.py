from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from sencache.stats import Refresh, RunLog, SampleStats, StatsRecorder, join_stats


def recorder(rows: int = 2) -> StatsRecorder:
    stats = StatsRecorder(rows, "paper", "abc")
    stats.record([True] * rows)
    for computed, score, change in (
        ([True, False], [0.5, 0.25], [0.75, 0.0]),
        ([False, False], [0.125, 0.5], [0.0, 0.0]),
        ([True, True], [1.0, 2.0], [0.25, 3.0]),
    ):
        stats.record(computed[:rows], torch.tensor(score[:rows]), torch.tensor(change[:rows]))
    return stats


def test_means_are_over_refreshes_and_the_maximum_over_reuses() -> None:
    refreshes = (Refresh(1, 0.5, 0.75), Refresh(3, 1.0, 0.25))
    assert recorder().samples() == [
        SampleStats("paper", "abc", 3, 1, "CCRC", 0, 0.75, 0.5, 0.125, refreshes),
        SampleStats("paper", "abc", 2, 2, "CRRC", 0, 2.0, 3.0, 0.5, (Refresh(3, 2.0, 3.0),)),
    ]


def test_reading_does_not_end_the_recording() -> None:
    stats = recorder()
    before = stats.samples()
    assert stats.samples() == before
    stats.record([True, True], torch.ones(2), torch.ones(2))
    assert [sample.decisions for sample in stats.samples()] == ["CCRCC", "CRRCC"]


def test_evaluations_count_every_branch() -> None:
    stats = StatsRecorder(2, "paper", "abc")
    stats.count([True, False, True, True])  # both branches in one call
    stats.count([True, True])  # one branch
    assert [sample.evaluations for sample in stats.samples()] == [3, 2]


def test_no_refresh_means_no_error_to_tell() -> None:
    stats = StatsRecorder(1, "none", "")
    stats.record([True])
    (sample,) = stats.samples()
    assert sample.to_dict() == {
        "policy": "none",
        "profile": "",
        "nfe": 1,
        "reused": 0,
        "decisions": "C",
        "evaluations": 0,
        "predicted_error": None,
        "actual_error": None,
        "max_score": 0.0,
        "refreshes": (),
        "promised_error": None,
    }


@pytest.mark.parametrize(("score", "change"), [(math.nan, 0.5), (math.inf, math.inf)])
def test_what_is_not_finite_is_not_told(score: float, change: float) -> None:
    """Without a profile there is no prediction; and JSON has no infinity."""
    stats = StatsRecorder(1, "none", "")
    stats.record([True])
    stats.record([True], torch.tensor([score]), torch.tensor([change]))
    (sample,) = stats.samples()
    json.dumps(sample.to_dict(), allow_nan=False)
    assert sample.predicted_error is None
    assert sample.actual_error == (change if math.isfinite(change) else None)


def test_two_networks_of_a_run_are_joined_and_their_steps_go_on() -> None:
    one, two = recorder().samples()
    assert join_stats([one]) == one
    both = join_stats([one, two])
    assert both.decisions == "CCRCCRRC"
    assert (both.nfe, both.reused, both.max_score) == (5, 3, 0.5)
    assert [refresh.step for refresh in both.refreshes] == [1, 3, 7]
    assert both.predicted_error == pytest.approx((0.5 + 1.0 + 2.0) / 3)


def lengths(log: RunLog) -> list[int]:
    return [len(sample.decisions) for sample in log.samples()]


def test_a_run_is_all_networks_until_the_call_ends() -> None:
    log = RunLog()
    assert log.samples() == []
    log.begin(1, recorder())
    log.begin(2, recorder())
    assert lengths(log) == [8, 8]
    log.end()
    log.end()  # once per network
    assert lengths(log) == [8, 8]
    log.begin(2, recorder())  # a run that starts below the boundary
    assert lengths(log) == [4, 4]


@pytest.mark.parametrize(("network", "rows"), [(1, 2), (3, 1)])
def test_a_broken_off_run_is_forgotten_when_the_next_begins(network: Any, rows: int) -> None:
    log = RunLog()
    log.begin(1, recorder())
    log.begin(2, recorder())
    log.begin(network, recorder(rows))
    assert lengths(log) == [4] * rows
