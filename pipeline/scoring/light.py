"""Scorer `light`: black frames, colour saturation, clipped pixels, flicker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames, ScoredClip

BLACK_LEVEL = 0.10
BLACK_SHARE = 0.98
"""A frame is black if this share of its pixels has a luma below the level: the defaults of
FFmpeg's `blackdetect`."""

TILES = 4
"""Flicker is measured in a grid of so many tiles a side."""


class LightScorer:
    """Numbers about brightness and colour.

    `black` is the share of black frames. `saturation` is the mean saturation of HSV, 0 to 1.
    `clipped` is the share of pixels with a channel at 255 or with all channels at 0. `flicker` is
    the mean size of the second difference in time of the tiles' luma, 0 to 1: steady movement and
    slow fades leave it near 0.
    """

    name = "light"
    version = "1"
    scores = ("black", "saturation", "clipped", "flicker")

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip.frames) for clip in clips]

    def _one(self, frames: Frames) -> Mapping[str, float]:
        black, saturation, clipped, tiles = [], [], [], []
        for frame in frames:
            luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            dark = np.mean(luma < 255 * BLACK_LEVEL)
            black.append(dark >= BLACK_SHARE)
            saturation.append(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255)
            highest = cv2.max(cv2.max(frame[..., 0], frame[..., 1]), frame[..., 2])
            clipped.append(np.mean((highest == 255) | (highest == 0)))
            tiles.append(cv2.resize(luma, (TILES, TILES), interpolation=cv2.INTER_AREA))
        return {
            "black": float(np.mean(black)),
            "saturation": float(np.mean(saturation)),
            "clipped": float(np.mean(clipped)),
            "flicker": _second_difference(np.asarray(tiles, dtype=np.float64) / 255),
        }


def _second_difference(values: np.ndarray) -> float:
    """Mean size of the second difference along the first axis; 0 for fewer than 3 values."""
    if len(values) < 3:
        return 0.0
    return float(np.abs(values[:-2] - 2 * values[1:-1] + values[2:]).mean())
