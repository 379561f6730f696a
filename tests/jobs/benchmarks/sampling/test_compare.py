import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from jobs.benchmarks.sampling.compare import (
    CONTROL,
    MAX_PSNR_DB,
    compare,
    fewer_steps,
    psnr,
)
from pipeline.engine.protocol import Clip
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

REQUESTS = [
    SampleRequest("p", "", "demo", "r", "S/3", 50, 4.0, 16, 16, 5, 8, 32, seed) for seed in range(5)
]


class ShiftingEngine:
    """A cached clip is `1 + seed` grey levels off; its NFE is half."""

    device_name = "test"
    group_size = 1

    def __init__(self) -> None:
        self.calls: list[int] = []

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        self.calls.append(len(requests))
        clips = []
        for request in requests:
            cached = request.cache.policy != "none"
            level = 100 + (1 + request.seed if cached else 0)
            steps = request.num_inference_steps
            nfe = steps // 2 if cached else steps
            clips.append(Clip(np.full((5, 16, 16, 3), level, np.uint8), {"nfe": nfe}, 0))
        return clips

    def close(self) -> None:
        return


def test_arms_are_compared_clip_by_clip_with_the_control() -> None:
    engine = ShiftingEngine()
    cached = [dataclasses.replace(r, cache=CacheIdentity("paper", "{}", "h")) for r in REQUESTS]
    arms = {CONTROL: REQUESTS, "cached": cached, "25 steps": fewer_steps(REQUESTS, 25)}
    control, half, fewer = compare(engine, arms, batch_rows=2)
    assert engine.calls == [2, *[2] * 3, *[2] * 3, *[1] * 3]
    assert (control.nfe_mean, half.nfe_mean, fewer.nfe_mean) == (50, 25, 25)
    assert (control.psnr_mean_db, control.wall_ratio) == (MAX_PSNR_DB, 1.0)
    expected = [20 * np.log10(255 / offset) for offset in (1, 2, 3, 4, 5)]
    assert half.psnr_mean_db == pytest.approx(np.mean(expected))
    assert half.psnr_min_db == pytest.approx(min(expected))
    assert half.psnr_ci95_db == pytest.approx(1.96 * np.std(expected, ddof=1) / 5**0.5)
    assert half.wall_ratio == pytest.approx(control.wall_s / half.wall_s)


def test_arms_must_hold_the_control_and_the_same_clips() -> None:
    with pytest.raises(ValueError, match="uncached"):
        compare(ShiftingEngine(), {"cached": REQUESTS}, batch_rows=2)
    with pytest.raises(ValueError, match="one length"):
        compare(ShiftingEngine(), {CONTROL: REQUESTS, "x": REQUESTS[:2]}, batch_rows=2)


def test_psnr_of_a_known_error() -> None:
    zero = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(zero, zero) == MAX_PSNR_DB
    assert psnr(zero, zero + 255) == pytest.approx(0.0)
