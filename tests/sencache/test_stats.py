from __future__ import annotations

import json

import torch

from sencache.stats import SampleStats, StatsRecorder


def recorder() -> StatsRecorder:
    stats = StatsRecorder(2, torch.device("cpu"), "paper", "abc")
    stats.record_first()
    for computed, score, change in (
        ([True, False], [0.5, 0.25], [0.75, 0.0]),
        ([False, False], [0.125, 0.5], [0.0, 0.0]),
        ([True, True], [1.0, 2.0], [0.25, 3.0]),
    ):
        stats.record(computed, torch.tensor(computed), torch.tensor(score), torch.tensor(change))
    return stats


def test_means_are_over_refreshes_and_the_maximum_over_reuses() -> None:
    assert recorder().samples() == [
        SampleStats("paper", "abc", 3, 1, "CCRC", (0.5 + 1.0) / 2, (0.75 + 0.25) / 2, 0.125),
        SampleStats("paper", "abc", 2, 2, "CRRC", 2.0, 3.0, 0.5),
    ]


def test_reading_does_not_end_the_recording() -> None:
    stats = recorder()
    before = stats.samples()
    assert stats.samples() == before
    ones = torch.ones(2)
    stats.record([True, True], ones.bool(), ones, ones)
    assert [sample.decisions for sample in stats.samples()] == ["CCRCC", "CRRCC"]


def test_no_refresh_means_no_error_to_tell() -> None:
    stats = StatsRecorder(1, torch.device("cpu"), "none", "")
    stats.record_first()
    (sample,) = stats.samples()
    assert sample.to_dict() == {
        "policy": "none",
        "profile": "",
        "nfe": 1,
        "reused": 0,
        "decisions": "C",
        "predicted_error": None,
        "actual_error": None,
        "max_score": 0.0,
    }


def test_without_a_profile_the_actual_error_is_still_told() -> None:
    stats = StatsRecorder(1, torch.device("cpu"), "none", "")
    stats.record_first()
    stats.record([True], torch.tensor([True]), torch.tensor([torch.nan]), torch.tensor([0.5]))
    (sample,) = stats.samples()
    assert (sample.predicted_error, sample.actual_error) == (None, 0.5)


def test_a_row_that_went_bad_tells_no_infinity() -> None:
    """JSON has none."""
    stats = StatsRecorder(1, torch.device("cpu"), "paper", "abc")
    stats.record_first()
    infinite = torch.tensor([torch.inf])
    stats.record([True], torch.tensor([True]), infinite, infinite)
    (sample,) = stats.samples()
    json.dumps(sample.to_dict(), allow_nan=False)
    assert (sample.predicted_error, sample.actual_error) == (None, None)
