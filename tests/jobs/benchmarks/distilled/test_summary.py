from __future__ import annotations

import math

import pytest
import torch

from jobs.benchmarks.distilled.arms import UNCACHED, distilled_arms
from jobs.benchmarks.distilled.measure import ArmClips
from jobs.benchmarks.distilled.summary import diversity, psnr, summary
from jobs.benchmarks.quality.accuracy import CaptionMatch


def flat(*levels: float) -> list[torch.Tensor]:
    return [torch.full((2, 3, 4, 4), level) for level in levels]


def test_diversity_is_the_mean_distance_of_clips_of_one_caption() -> None:
    # Pairs of the first caption are 0.1, 0.3 and 0.2 apart, those of the second do not differ.
    clips = flat(0.0, 0.1, 0.3, 0.7, 0.7, 0.7)
    assert diversity(clips, 3) == pytest.approx((0.1 + 0.3 + 0.2) / 6)
    assert diversity(flat(0.2, 0.5), 2) == pytest.approx(0.3)


def test_psnr_of_a_known_difference() -> None:
    one, other = flat(0.5, 0.6)
    assert psnr(one, other) == pytest.approx(20.0, abs=1e-4)
    assert psnr(one, one) == 100.0


def test_a_summary_adds_up() -> None:
    arms = {arm.name: arm for arm in distilled_arms(2, 2)}
    matches = [CaptionMatch(True, 0.9), CaptionMatch(True, 0.8), CaptionMatch(False, 0.2)]
    matches.append(CaptionMatch(True, 0.7))
    uncached = ArmClips(arms[UNCACHED], flat(0.1, 0.2, 0.3, 0.4), [50] * 4, matches, 8.0)
    few = ArmClips(arms["distilled 4"], flat(0.2, 0.3, 0.4, 0.5), [4] * 4, matches, 1.0)
    row = summary(few, uncached, price=0.36)
    assert (row.clips, row.nfe, row.calls) == (4, 4, 4)
    assert row.cpu_s == 0.25
    assert row.dollars_per_1000 == pytest.approx(1000 * 0.25 * 0.36 / 3600)
    assert row.right == 0.75
    assert row.fit == pytest.approx(0.65)
    assert row.worst_fit == 0.2
    assert row.psnr == pytest.approx(20.0, abs=1e-4)
    assert row.worst_psnr == pytest.approx(20.0, abs=1e-4)
    assert row.diversity == pytest.approx(0.1)
    control = summary(uncached, uncached, price=0.36)
    assert control.calls == 100  # both branches of guidance
    assert math.isclose(control.psnr, 100.0)
