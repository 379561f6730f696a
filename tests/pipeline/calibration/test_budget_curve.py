"""The curve that a calibration ends with, and what is made of it."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.benchmarks.profiles.bench import Bench, load_bench
from pipeline.calibration.budget_curve import (
    BudgetPoint,
    curve_text,
    measure_curve,
    recommended,
)
from pipeline.scoring.similarity import MAX_PSNR_DB
from sencache import SensitivityProfile


def point(nfe: int, *psnr: float) -> BudgetPoint:
    return BudgetPoint(nfe / 50, nfe, 50, psnr)


@pytest.fixture(scope="module")
def bench() -> Bench:
    made = load_bench("demo", "", "cpu")
    small = {"width": 32, "height": 32, "num_frames": 5, "num_inference_steps": 8}
    return dataclasses.replace(made, template=dataclasses.replace(made.template, **small))


@pytest.fixture(scope="module")
def profile(bench: Bench) -> SensitivityProfile:
    return bench.calibrate(["a red circle moving left"], 1)


@pytest.mark.slow
def test_a_full_budget_changes_nothing_and_smaller_ones_do(
    bench: Bench, profile: SensitivityProfile
) -> None:
    told: list[tuple[int, int]] = []
    points = measure_curve(
        bench.model.spec,
        bench.pipe,
        bench.template,
        ["a blue square moving up", "a red circle moving left"],
        [7, 8, 9],
        profile,
        budgets=(1.0, 0.5),
        progress=lambda done, total: told.append((done, total)),
    )
    assert [(each.nfe, each.steps) for each in points] == [(8, 8), (4, 8)]
    assert points[0].psnr == (MAX_PSNR_DB,) * 3
    assert all(10 < value < MAX_PSNR_DB for value in points[1].psnr)
    assert len(set(points[1].psnr)) == 3
    assert told == [(done, 9) for done in range(1, 10)]


def test_the_least_budget_with_a_faithful_worst_clip_is_recommended() -> None:
    points = [point(25, 60.0, 55.0), point(17, 48.0, 40.0), point(13, 50.0, 39.9)]
    assert recommended(points) == points[1]
    text = curve_text(points)
    assert "--cache.budget 0.34" in text
    assert "17/50" in text
    assert "2.94x" in text


def test_no_budget_is_recommended_where_none_is_faithful() -> None:
    points = [point(25, 60.0, 30.0)]
    assert recommended(points) is None
    assert "run uncached" in curve_text(points)
