"""The calibration benchmark: its statistics, and the whole of it on a tiny model."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from jobs.benchmarks.profiles import bench as bench_module
from jobs.benchmarks.profiles import calibration
from jobs.benchmarks.profiles.bench import Bench, with_changes
from jobs.benchmarks.profiles.prediction import MAX_GAP, recorded_agreement, spearman
from jobs.benchmarks.profiles.transfer import compare_profiles
from pipeline.errors import UserError
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from sencache import SensitivityProfile
from sencache.profiles.metadata import SensitivityPoint

WAN = "wan2.1-t2v-1.3b"


@pytest.fixture
def bench(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> Bench:
    model = tiny_resolved(WAN)
    return Bench(model, load_pipeline(model, "cpu"), request_for(model, num_inference_steps=8))


def test_rank_correlation_is_that_computed_by_hand() -> None:
    a = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    b = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
    # Ranks differ by 0, 1, -1, 1, -1: 1 - 6 * 4 / (5 * 24).
    assert spearman(a, b) == pytest.approx(0.8)
    assert spearman(a, -b) == pytest.approx(-0.8)
    assert spearman(a, np.exp(a)) == pytest.approx(1.0)


def test_ties_share_their_mean_rank() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, sums of squares 4.5 and 5.
    assert spearman(a, b) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(spearman(a, np.ones(4)))


def with_values(profile: SensitivityProfile, tau_values: dict[float, float]) -> SensitivityProfile:
    points = tuple(
        SensitivityPoint(tau, value, 0.0, 2 * value, 0.0) for tau, value in tau_values.items()
    )
    return SensitivityProfile(profile.metadata, {"cond": points})


def test_profiles_are_compared_at_the_times_of_the_second(profile: SensitivityProfile) -> None:
    one = with_values(profile, {1.0: 1.0, 0.0: 3.0})
    other = with_values(profile, {1.0: 1.0, 0.5: 4.0, 0.25: 2.5})
    a_x, a_t = compare_profiles(one, other)
    assert (a_x.branch, a_x.name, a_t.name) == ("cond", "a_x", "a_t")
    # 1 and 1; 2 and 4; 2.5 and 2.5.
    assert (a_x.mean, a_x.worst, a_x.worst_tau) == pytest.approx((2 / 9, 2 / 3, 0.5))
    assert (a_t.mean, a_t.worst) == pytest.approx((a_x.mean, a_x.worst))
    assert all(d.worst == 0 for d in compare_profiles(one, one))


def test_a_shift_is_changed_in_the_sampler_s_name(bench: Bench) -> None:
    changed = with_changes(bench.template, {"shift": 5, "num_inference_steps": 3})
    assert changed.sampler == "UniPCMultistepScheduler/5.0"
    assert (
        dataclasses.replace(changed, sampler=bench.template.sampler, num_inference_steps=8)
        == bench.template
    )


def test_all_pairs_of_steps_of_all_clips_are_counted(bench: Bench) -> None:
    profile = bench.calibrate(["a dog"], 2)
    requests = bench.requests(["a cat", "a bird"], 100)
    total, *per_gap = recorded_agreement(bench, requests, profile, bench.requests(["a dog"], 0))[
        : MAX_GAP + 1
    ]
    assert [a.pairs for a in per_gap] == [2 * (8 - gap) for gap in range(1, MAX_GAP + 1)]
    assert total.pairs == sum(a.pairs for a in per_gap)
    # Between neighbours S is a triangle inequality, on the clip that it was measured on exactly.
    own = recorded_agreement(
        bench, bench.requests(["a dog"], 0), bench.calibrate(["a dog"], 1), bench.requests(["x"], 0)
    )
    assert own[1].ratio >= 1
    assert vars(bench.pipe.transformer)["_diffusers_hook"].hooks == {}


def options(tmp_path: Path, **changes: object) -> argparse.Namespace:
    for name, captions in (("own.txt", "a dog\na cat\n"), ("others.txt", "a red fox\na sea\na d")):
        (tmp_path / name).write_text(captions)
    parser = argparse.ArgumentParser()
    calibration.add_arguments(parser)
    own, others = (
        f"--calibration-prompts={tmp_path / 'own.txt'}",
        f"--prompts={tmp_path}/others.txt",
    )
    parsed = parser.parse_args([own, others, "--clips=1", "--held-out=2", "--steps=6"])
    return argparse.Namespace(**vars(parsed) | changes)


@pytest.mark.variant
@pytest.mark.slow
def test_everything_is_measured_shown_and_returned(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "load_bench", lambda *_: bench)
    shown = io.StringIO()
    result = calibration.main(options(tmp_path), Console(file=shown, width=200))
    json.dumps(result)
    assert [d["name"] for d in result["two_sets"]] == ["a_x", "a_t"] * 2
    assert all(d["worst"] > 0 for d in result["two_sets"])  # disjoint clips
    names = [a["name"] for a in result["prediction"]]
    assert "recorded uncond, 1 to 4 steps" in names
    assert names[-1] == "planned, all together"
    assert [t["name"] for t in result["transfer"]] == ["6 steps", "shift 5"]
    for setting in result["transfer"]:
        assert [arm["epsilon"] for arm in setting["arms"]] == list(calibration.TRANSFER_EPSILONS)
    for text in ("two disjoint sets of 1 clips", "2 held-out clips", "6 steps, epsilon 0.1"):
        assert text in shown.getvalue()
    assert getattr(bench.pipe.transformer, "_cache_config", None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "--clips must be at least 1"),
        ({"held_out": 9}, "has 3 captions, not 9"),
        ({"model": "nonsense"}, "unknown model"),
    ],
)
def test_what_cannot_be_measured_is_said(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        calibration.main(options(tmp_path, **change), Console(file=io.StringIO()))


def test_clips_come_in_batches_and_are_the_same_again(bench: Bench) -> None:
    requests = bench.requests(["a dog", "a cat", "a bird"], 0)
    uncached = bench.sample(requests)
    assert [stats.decisions for stats in uncached.stats] == ["C" * 8] * 3
    assert len(uncached.frames) == 3
    batch = next(iter(bench.batches(requests)))
    assert torch.equal(bench.run(batch, "latent"), bench.run(batch, "latent"))
