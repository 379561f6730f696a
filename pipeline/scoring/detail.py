"""Scorer `detail`: sharpness and blockiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames, ScoredClip

Plane = np.ndarray[Any, Any]

BLUR_PIXELS = 9
"""Length of the box filter that a frame is blurred with, after Crete et al. 2007."""

BLOCK = 8
"""Blocks of common codecs and of many decoders' artefacts, pixels a side."""


class DetailScorer:
    """Numbers about edges.

    `sharpness` is 1 less the blur effect (Crete et al. 2007): the share of the luma's variation
    that a blur of 9 pixels takes away; 1 is sharp, 0 is blurred or empty. `blockiness` is the mean
    step across the borders of blocks of 8 pixels over that elsewhere, less 1 (after Wang, Sheikh
    and Bovik 2002); 0 without blocks. Both are means over frames.
    """

    name = "detail"
    version = "1"
    scores = ("sharpness", "blockiness")

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip.frames) for clip in clips]

    def _one(self, frames: Frames) -> Mapping[str, float]:
        lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
        return {
            "sharpness": float(np.mean([_sharpness(luma) for luma in lumas])),
            "blockiness": float(np.mean([_blockiness(luma) for luma in lumas])),
        }


def _sharpness(luma: Plane) -> float:
    """The lesser of the two directions."""
    found = []
    for axis, size in ((0, (1, BLUR_PIXELS)), (1, (BLUR_PIXELS, 1))):
        blurred = cv2.blur(luma, size)
        before = np.abs(np.diff(luma, axis=axis))
        after = np.abs(np.diff(blurred, axis=axis))
        whole = float(before.sum())
        lost = float(np.maximum(0.0, before - after).sum())
        found.append(lost / whole if whole else 0.0)
    return min(found)


def _blockiness(luma: Plane) -> float:
    """The greater of the two directions; 0 for frames of less than two blocks."""
    found = [0.0]
    for axis in (0, 1):
        if luma.shape[axis] < 2 * BLOCK:
            continue
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        border = np.arange(len(steps)) % BLOCK == BLOCK - 1
        within = float(steps[~border].mean())
        if within > 0:
            found.append(float(steps[border].mean()) / within - 1)
    return max(found)
