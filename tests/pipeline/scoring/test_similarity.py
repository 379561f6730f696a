"""Distances of clips, against values computed elsewhere or by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from pipeline.scoring.similarity import (
    MAX_PSNR_DB,
    load_lpips,
    psnr,
    ssim,
)


def grey(frame: torch.Tensor) -> torch.Tensor:
    """A clip of one frame whose luma is the frame."""
    return frame.expand(1, 3, *frame.shape)


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    x, y = x.double(), y.double()
    one = 0.5 + 0.4 * torch.sin(0.3 * x + 0.2 * y)
    other = 0.5 + 0.35 * torch.sin(0.3 * x + 0.2 * y + 0.4) + 0.05 * torch.cos(1.7 * x * y / 10)
    return one, other


def test_psnr_is_that_computed_by_hand() -> None:
    clip = torch.zeros(2, 3, 4, 4)
    assert psnr(clip, clip + 0.1) == pytest.approx(20.0, abs=1e-5)
    half = clip.clone()
    half[0] = 0.1  # half of all pixels are off by 0.1
    assert psnr(clip, half) == pytest.approx(20 + 10 * math.log10(2), abs=1e-5)
    assert psnr(clip, clip) == MAX_PSNR_DB


def test_ssim_is_that_of_scikit_image() -> None:
    # structural_similarity of scikit-image 0.26.0 on the same frames: data_range=1.0,
    # gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    one, other = waves()
    assert ssim(grey(one), grey(other)) == pytest.approx(0.8002199368411997, abs=1e-9)
    assert ssim(grey(one), grey(one)) == pytest.approx(1.0)


def test_ssim_reads_luma_and_averages_frames() -> None:
    one, other = waves()
    clip = torch.cat([grey(one), grey(one)])
    reference = torch.cat([grey(one), grey(other)])
    assert ssim(clip, reference) == pytest.approx((1 + ssim(grey(one), grey(other))) / 2)
    coloured = grey(one).clone()
    coloured[:, 0] += 0.114 * 0.2
    coloured[:, 2] -= 0.299 * 0.2  # the same luma
    assert ssim(coloured, grey(one)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 10, 32), (2, 3, 24, 32)])
def test_frames_without_an_ssim_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no SSIM"):
        ssim(torch.zeros(shape), torch.zeros(1, 3, *shape[-2:]))


def test_lpips_is_absent_without_its_package_or_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    distance, why = load_lpips(torch.device("cpu"))
    assert distance is None
    assert "not installed" in why
    monkeypatch.setitem(sys.modules, "lpips", torch)  # anything that can be imported
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance, why = load_lpips(torch.device("cpu"))
    assert distance is None
    assert "alexnet" in why
