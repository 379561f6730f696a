"""The scorers without weights tell known faults from sound clips, and give known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.scoring.detail import DetailScorer
from pipeline.scoring.light import LightScorer
from pipeline.scoring.movement import MovementScorer
from pipeline.scoring.scorer import ScoredClip, Scorer
from tests.pipeline.scoring.made_clips import (
    Frames,
    blocky,
    blurred,
    cut_to,
    flickering,
    frozen_from,
    moving,
)

SEEDS = range(6)


def scores_of(scorer: Scorer, frames: Frames, fps: float = 8.0) -> dict[str, float]:
    (found,) = scorer.score([ScoredClip(frames, fps, "", {})])
    assert set(found) == set(scorer.scores)
    assert all(math.isfinite(value) for value in found.values())
    return dict(found)


@pytest.mark.parametrize("scorer", [LightScorer(), MovementScorer(), DetailScorer()])
@pytest.mark.parametrize("shape", [(1, 16, 16, 3), (2, 9, 40, 3), (3, 480, 832, 3)])
def test_clips_of_any_shape_have_every_score(scorer: Scorer, shape: tuple[int, ...]) -> None:
    clip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    scores_of(scorer, clip)
    scores_of(scorer, np.zeros(shape, np.uint8))


def test_several_clips_are_scored_as_each_alone() -> None:
    clips = [ScoredClip(moving(seed), 8.0, "", {}) for seed in (0, 1)]
    for scorer in (LightScorer(), MovementScorer(), DetailScorer()):
        assert scorer.score(clips) == [scorer.score([clip])[0] for clip in clips]


@pytest.mark.parametrize("dark", [1, 5, 16])
def test_black_is_the_share_of_black_frames(dark: int) -> None:
    clip = moving()
    clip[len(clip) - dark :] = 10
    assert scores_of(LightScorer(), clip)["black"] == pytest.approx(dark / 16)


def test_saturation_and_clipping_of_plain_colours() -> None:
    def plain(*colour: int) -> dict[str, float]:
        return scores_of(LightScorer(), np.full((3, 32, 32, 3), colour, np.uint8))

    assert plain(120, 120, 120)["saturation"] == 0.0
    assert plain(200, 0, 0)["saturation"] == 1.0
    assert plain(200, 100, 100)["saturation"] == pytest.approx(0.5, abs=0.01)
    assert plain(255, 100, 100)["clipped"] == 1.0
    assert plain(0, 0, 0)["clipped"] == 1.0
    assert plain(0, 100, 100)["clipped"] == 0.0  # one channel at 0 is a colour


def test_flicker_is_not_a_fade() -> None:
    still = np.repeat(moving(frames=1), 16, axis=0)
    fade = (still * np.linspace(1.0, 0.5, 16)[:, None, None, None]).astype(np.uint8)
    assert scores_of(LightScorer(), still)["flicker"] == 0.0
    assert scores_of(LightScorer(), fade)["flicker"] < 0.004
    # Alternating by 10 % of a luma near 0.5 has second differences of 0.1.
    assert scores_of(LightScorer(), flickering(still))["flicker"] == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_motion_is_in_diagonals_per_second(step: int) -> None:
    expected = step / math.hypot(64, 64) * 8.0
    found = scores_of(MovementScorer(), moving(step=step))["motion"]
    assert found == pytest.approx(expected, rel=0.15)
    assert scores_of(MovementScorer(), moving(step=step), fps=16.0)["motion"] == pytest.approx(
        2 * found
    )


def test_motion_does_not_depend_on_the_resolution() -> None:
    small = moving(step=2)
    large = small.repeat(10, axis=1).repeat(10, axis=2)
    pair = [scores_of(MovementScorer(), clip)["motion"] for clip in (small, large)]
    assert pair[0] == pytest.approx(pair[1], rel=0.1)


@pytest.mark.parametrize("frame", [0, 3, 10, 14])
def test_frozen_is_the_longest_run_of_repeats(frame: int) -> None:
    found = scores_of(MovementScorer(), frozen_from(moving(), frame))
    assert found["frozen"] == pytest.approx((15 - frame) / 15)
    assert scores_of(MovementScorer(), moving())["frozen"] == 0.0


def test_a_small_object_that_moves_is_not_frozen() -> None:
    clip = np.full((16, 480, 832, 3), 90, np.uint8)
    for index, frame in enumerate(clip):
        frame[200:230, 100 + 4 * index : 130 + 4 * index] = 200
    assert scores_of(MovementScorer(), clip)["frozen"] == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_cuts_are_counted_and_flashes_are_not(seed: int) -> None:
    one, two, three = (moving(seed + 10 * k) for k in range(3))
    assert scores_of(MovementScorer(), one)["cuts"] == 0
    assert scores_of(MovementScorer(), cut_to(one, two, 7))["cuts"] == 1
    assert scores_of(MovementScorer(), cut_to(cut_to(one, two, 4), three, 11))["cuts"] == 2
    flash = one.copy()
    flash[8] = 255
    assert scores_of(MovementScorer(), flash)["cuts"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_warping_error_sees_flicker_and_not_movement(seed: int) -> None:
    clip = moving(seed, step=2)
    sound = scores_of(MovementScorer(), clip)["warping_error"]
    unsteady = scores_of(MovementScorer(), flickering(clip))["warping_error"]
    assert sound < 0.01 < 3 * sound + 0.01 < unsteady


@pytest.mark.parametrize("seed", SEEDS)
def test_blur_lowers_sharpness_and_blocks_are_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = np.clip(moving(seed) + rng.normal(0, 12, (1, 64, 64, 3)), 0, 255).astype(np.uint8)
    sound = scores_of(DetailScorer(), clip)
    assert scores_of(DetailScorer(), blurred(clip))["sharpness"] < 0.6 * sound["sharpness"]
    assert sound["blockiness"] < 0.3
    assert scores_of(DetailScorer(), blocky(moving(seed)))["blockiness"] > 1.0


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_sharpness_is_the_steepest_step_over_the_range(sigma: float) -> None:
    edge = np.full((2, 64, 64, 3), 40, np.uint8)
    edge[:, :, 32:] = 200
    assert scores_of(DetailScorer(), edge)["sharpness"] == pytest.approx(1.0)
    # A step that is blurred by sigma has a slope of 1 / (sigma * sqrt(2 pi)) of its height.
    expected = 1 / (sigma * math.sqrt(2 * math.pi))
    found = scores_of(DetailScorer(), blurred(edge, sigma))["sharpness"]
    assert found == pytest.approx(expected, rel=0.1)
    flat = np.random.default_rng(0).integers(118, 122, (2, 64, 64, 3), dtype=np.uint8)
    assert scores_of(DetailScorer(), flat)["sharpness"] < 0.3
