"""Similarity of a clip to a reference clip: PSNR, SSIM and LPIPS of float frames in 0..1.

Frames are never rounded to bytes: rounding both clips limits their PSNR to about 56 dB, which would
hide smaller differences.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch

MAX_PSNR_DB = 100.0
"""The PSNR that is reported for equal frames, whose PSNR is infinite."""

WINDOW, SIGMA = 11, 1.5
"""Size in pixels and standard deviation of the Gaussian window of SSIM's authors."""

_LUMA = (0.299, 0.587, 0.114)
_LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"


def psnr(clip: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the peak signal-to-noise ratio over all frames, in dB, up to `MAX_PSNR_DB`."""
    return decibels(float((clip.double() - reference.double()).square().mean()))


def decibels(error: float) -> float:
    """Return the PSNR in dB for a mean square error of values in 0..1, up to `MAX_PSNR_DB`."""
    return MAX_PSNR_DB if error == 0 else min(MAX_PSNR_DB, -10 * math.log10(error))


def ssim(clip: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the structural similarity (Wang et al. 2004) of the luma, mean over frames.

    The window is Gaussian, of 11 pixels and standard deviation 1.5; moments are those of the
    population; only positions whose window lies inside the frame count.

    Args:
        clip: Frames of shape [frames, 3, height, width] in 0..1.
        reference: Frames of the same shape.

    Raises:
        ValueError: The shapes differ, or a frame is smaller than the window.
    """
    if clip.shape != reference.shape or min(clip.shape[-2:]) < WINDOW:
        raise ValueError(
            f"frames of {tuple(clip.shape)} and {tuple(reference.shape)} have no SSIM: they must "
            f"be equal in shape and at least {WINDOW} pixels a side"
        )
    x, y = _luma(clip), _luma(reference)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    both = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similar = ((2 * mean_x * mean_y + c1) * (2 * both + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return float(similar.mean())


def load_lpips(device: torch.device) -> tuple[Any, str]:
    """Load LPIPS with AlexNet if package and weights are on this machine; download nothing.

    Returns:
        A function of two clips and "", or None and the reason.
    """
    try:
        import lpips
    except ImportError:
        return None, "no LPIPS: package lpips is not installed (extra `quality`)"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / _LPIPS_BACKBONE
    if not weights.is_file():
        return None, f"no LPIPS: torch.hub holds no {_LPIPS_BACKBONE}"
    network = lpips.LPIPS(net="alex", verbose=False).to(device)

    @torch.no_grad()
    def distance(clip: torch.Tensor, reference: torch.Tensor) -> float:
        one, other = (frames.float().to(device) * 2 - 1 for frames in (clip, reference))
        return float(network(one, other).mean())

    return distance, ""


def _luma(clip: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=clip.device)
    return (clip.double() * weights[:, None, None]).sum(1, keepdim=True)


@functools.cache
def _kernel(device: torch.device) -> torch.Tensor:
    at = torch.arange(WINDOW, dtype=torch.float64, device=device) - WINDOW // 2
    weights = torch.exp(-(at**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blur(image: torch.Tensor) -> torch.Tensor:
    kernel = _kernel(image.device)
    rows = torch.nn.functional.conv2d(image, kernel[None, None, :, None])
    return torch.nn.functional.conv2d(rows, kernel[None, None, None, :])
