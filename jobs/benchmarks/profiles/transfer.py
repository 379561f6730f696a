"""Measures how a profile works under a sampler setting that it was not measured under."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.profiles.bench import Bench, with_changes
from jobs.benchmarks.sampling.compare import psnr
from pipeline.requests.sample_request import SampleRequest
from sencache import SenCacheConfig, SensitivityProfile


@dataclass(frozen=True, slots=True)
class CurveDifference:
    """The difference of one sensitivity of a branch between two profiles.

    Attributes:
        branch: Guidance branch.
        name: `a_x` or `a_t`.
        mean: Mean of |a - b| / ((a + b) / 2) over the times of the second profile.
        worst: The largest of these values.
        worst_tau: The time of the largest value.
    """

    branch: str
    name: str
    mean: float
    worst: float
    worst_tau: float


@dataclass(frozen=True, slots=True)
class TransferArm:
    """Cached runs at one epsilon with either profile.

    Attributes:
        epsilon: Threshold of both runs.
        native_nfe, transferred_nfe: Network evaluations per clip, in steps, mean.
        native_psnr_db, transferred_psnr_db: Mean PSNR to the uncached clip.
        difference_db: Mean over clips of transferred - native.
        difference_ci95_db: Half-width of its 95 % interval (normal approximation).
    """

    epsilon: float
    native_nfe: float
    transferred_nfe: float
    native_psnr_db: float
    transferred_psnr_db: float
    difference_db: float
    difference_ci95_db: float


@dataclass(frozen=True, slots=True)
class TransferResult:
    """The results under one sampler setting.

    Attributes:
        name: Name of the setting.
        differences: Differences between the transferred and the native profile.
        arms: Cached runs with either profile.
    """

    name: str
    differences: list[CurveDifference]
    arms: list[TransferArm]


def compare_profiles(
    profile: SensitivityProfile, other: SensitivityProfile
) -> list[CurveDifference]:
    """Compare two profiles at the times of the second; the first is interpolated."""
    differences = []
    for branch, points in other.branches.items():
        tau = torch.tensor([point.tau for point in points])
        for name, mine in zip(("a_x", "a_t"), profile.curve(branch)(tau), strict=True):
            theirs = torch.tensor([getattr(point, name) for point in points])
            relative = (mine - theirs).abs() / ((mine + theirs) / 2).clamp_min(1e-12)
            worst = int(relative.argmax())
            differences.append(
                CurveDifference(
                    branch,
                    name,
                    relative.mean().item(),
                    relative[worst].item(),
                    tau[worst].item(),
                )
            )
    return differences


def transfer(
    bench: Bench,
    requests: Sequence[SampleRequest],
    captions: Sequence[str],
    profile: SensitivityProfile,
    *,
    clips: int,
    epsilons: Sequence[float],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[TransferResult]:
    """Compare a profile under other settings with a profile that is measured under each.

    Args:
        bench: The model.
        requests: Held-out clips, under the profile's own setting.
        captions: Captions of the clips of native profiles.
        profile: The profile to transfer.
        clips: Number of clips of a native calibration.
        epsilons: Thresholds.
        settings: Changes of the requests by name (see `with_changes`).
    """
    results = []
    for name, changes in settings.items():
        native = bench.calibrate(captions, clips, **changes)
        changed = [with_changes(request, changes) for request in requests]
        uncached = bench.sample(changed).frames
        arms = []
        for epsilon in epsilons:
            config = SenCacheConfig(epsilon=epsilon)
            made = [bench.sample(changed, config, used) for used in (native, profile)]
            decibels = [
                [psnr(clip, wanted) for clip, wanted in zip(m.frames, uncached, strict=True)]
                for m in made
            ]
            gaps = [b - a for a, b in zip(*decibels, strict=True)]
            spread = statistics.stdev(gaps) if len(gaps) > 1 else 0.0
            arms.append(
                TransferArm(
                    epsilon=epsilon,
                    native_nfe=statistics.fmean(stats.nfe for stats in made[0].stats),
                    transferred_nfe=statistics.fmean(stats.nfe for stats in made[1].stats),
                    native_psnr_db=statistics.fmean(decibels[0]),
                    transferred_psnr_db=statistics.fmean(decibels[1]),
                    difference_db=statistics.fmean(gaps),
                    difference_ci95_db=1.96 * spread / math.sqrt(len(gaps)),
                )
            )
        results.append(TransferResult(name, compare_profiles(profile, native), arms))
    return results
