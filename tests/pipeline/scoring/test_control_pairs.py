"""The frames of a sample against those of its control."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pipeline.scoring import control_pairs, similarity
from pipeline.scoring.control_pairs import compare


def test_compare_agrees_with_the_whole_clip_metrics() -> None:
    rng = np.random.default_rng(0)
    clip, control = rng.integers(0, 256, (2, 19, 24, 32, 3), dtype=np.uint8)
    found = compare(clip, control)
    one, other = (torch.from_numpy(c).permute(0, 3, 1, 2) / 255.0 for c in (clip, control))
    assert found["psnr_db"] == pytest.approx(similarity.psnr(one, other), abs=1e-4)
    assert found["ssim"] == pytest.approx(similarity.ssim(one, other), abs=1e-6)
    tiny = compare(clip[:, :8, :8], control[:, :8, :8])
    assert tiny["ssim"] is None
    assert "no SSIM: frames are smaller than its window of 11 pixels" in str(tiny["missing"])


def test_threads_that_compare_at_once_load_lpips_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []

    def load(_: torch.device) -> tuple[None, str]:
        loads.append(1)
        time.sleep(0.05)  # so that the others come meanwhile
        return None, "no LPIPS"

    monkeypatch.setattr(similarity, "load_lpips", load)
    control_pairs._lpips.cache_clear()
    clip = np.zeros((3, 16, 16, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: compare(clip, clip), range(4)))
    assert len(loads) == 1
    control_pairs._lpips.cache_clear()


def test_the_reason_why_lpips_is_missing_is_in_the_row_and_left_to_the_driver(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    control_pairs._lpips.cache_clear()
    clip = np.zeros((3, 16, 16, 3), np.uint8)
    why = "no LPIPS: package lpips is not installed (extra `quality`)"
    assert [compare(clip, clip)["missing"] for _ in range(2)] == [why] * 2
    assert not caplog.records  # of each process of a run
    control_pairs._lpips.cache_clear()
