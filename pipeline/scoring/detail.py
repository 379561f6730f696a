"""Scorer `detail`: sharpness and blockiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames, ScoredClip

Plane = np.ndarray[Any, Any]

STEEPEST = 99.9
"""Percentile of the differences between neighbouring pixels that counts as the steepest edge."""

LEAST_RANGE = 16.0
"""Levels (of 255) that a frame's range of luma counts as at least: noise alone is no edge."""

BLOCK = 8
"""Blocks of common codecs and of many decoders' artefacts, pixels a side."""


class DetailScorer:
    """Numbers about edges.

    `sharpness` is the acutance of the sharpest edges: the steepest difference between neighbouring
    pixels over the range of the frame's luma. 1 is from dark to bright within one pixel; a blur of
    sigma pixels leaves at most 0.4 / sigma. `blockiness` is the mean
    step across the borders of blocks of 8 pixels over that elsewhere, less 1 (after Wang, Sheikh
    and Bovik 2002); 0 without blocks. Both are means over frames.
    """

    name = "detail"
    version = "2"
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
    steps = np.concatenate([np.abs(np.diff(luma, axis=axis)).ravel() for axis in (0, 1)])
    if not steps.size:
        return 0.0
    low, high = np.percentile(luma, [0.5, 99.5])
    return min(1.0, float(np.percentile(steps, STEEPEST)) / max(float(high - low), LEAST_RANGE))


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
