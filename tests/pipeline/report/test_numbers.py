"""The numbers that people act on, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report.document import Report
from pipeline.report.pricing.prices import Prices
from tests.pipeline.report.made import measure, row, write


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One process on two devices at 7.2 dollars an hour each, which is 0.002 dollars a second.

    Seconds of the process, each on both devices: 7 loading, 10 + 30 + 20 for clips, 5 for failed
    attempts, 40 for a control, 8 idle; 120 in all.
    """
    rows = [
        row(0, wall=10.0, group=2, nfe=3),
        row(1, wall=30.0, group=2, nfe=4, wasted=5.0, attempts=2),
        row(2, wall=20.0, group=2, nfe=8),
        row(2, wall=40.0, group=2, control=True, up=120.0),
    ]
    return measure(write(tmp_path_factory.mktemp("numbers"), rows), Prices({"": 7.2}))


def test_device_time_by_what_it_went_into(report: Report) -> None:
    spent = report.device_s
    assert spent.model_dump() == pytest.approx(
        {
            "clips": 120.0,
            "controls": 80.0,
            "failed_attempts": 10.0,
            "regenerated": 0.0,
            "loading": 14.0,
            "idle": 16.0,
            "total": 240.0,
        }
    )


def test_money_by_what_it_went_into(report: Report) -> None:
    assert report.dollars is not None
    assert report.dollars.model_dump() == pytest.approx(
        {
            "clips": 0.24,
            "controls": 0.16,
            "failed_attempts": 0.02,
            "regenerated": 0.0,
            "loading": 0.028,
            "idle": 0.032,
            "total": 0.48,
        }
    )


def test_what_a_clip_costs(report: Report) -> None:
    head = report.headline
    assert head.gpu_s_per_clip == pytest.approx(130 / 3)  # clips and failed attempts, 3 clips
    assert head.dollars_per_clip == pytest.approx(0.26 / 3)
    assert head.dollars_per_clip_all_in == pytest.approx(0.16)  # 0.48 dollars over 3 clips


def test_what_a_clip_is_made_of(report: Report) -> None:
    head = report.headline
    assert head.nfe_mean == pytest.approx(5.0)  # (3 + 4 + 8) / 3
    assert head.reuse_ratio == pytest.approx(0.5)  # 15 of 30 steps
    # Each clip has 5 frames at 8 a second: 1.875 s of video in 130 device-seconds.
    assert report.totals.video_s == pytest.approx(1.875)
    assert head.video_s_per_gpu_hour == pytest.approx(1.875 * 3600 / 130)
    assert (report.totals.ok, report.totals.controls, report.totals.extra_attempts) == (3, 1, 1)


def test_what_slices_cost(report: Report) -> None:
    (by_model,) = report.cost_by_model
    assert (by_model.clips, by_model.nfe_mean) == (3, pytest.approx(5.0))
    assert by_model.gpu_s_per_clip == pytest.approx(130 / 3)
    assert by_model.dollars_per_clip == pytest.approx(0.26 / 3)


def test_nothing_is_divided_by_no_clip(tmp_path: Path) -> None:
    head = measure(write(tmp_path, [row(0, status="failed", wasted=3.0)]), Prices({"": 1})).headline
    assert (head.dollars_per_clip, head.dollars_per_clip_all_in) == (None, None)
    assert (head.gpu_s_per_clip, head.video_s_per_gpu_hour) == (None, 0.0)
    assert (head.nfe_mean, head.reuse_ratio, head.psnr_db) == (None, None, None)
