"""Faults that are planted into clips, each with the score that should show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames

Spoil = Callable[[Frames, Frames, np.random.Generator], Frames]
"""From a clip, another clip of the same shape and a generator to the clip with a fault."""


@dataclass(frozen=True)
class PlantedFault:
    """A fault and its score.

    Attributes:
        spoil: Plants it.
        score: Name of the score that should show it.
        higher: Whether clips with the fault have a higher score than sound ones.
    """

    spoil: Spoil
    score: str
    higher: bool = True


def _frozen(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Frozen from some frame in the first two thirds on."""
    start = int(rng.integers(1, max(2, 2 * len(clip) // 3)))
    made = clip.copy()
    made[start:] = made[start]
    return made


def _black(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Two black frames somewhere."""
    start = int(rng.integers(0, len(clip) - 1))
    made = clip.copy()
    made[start : start + 2] = int(rng.integers(0, 12))
    return made


def _flicker(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Every second frame is 10 % darker."""
    factor = np.where(np.arange(len(clip)) % 2, 1.0, 0.9)[:, None, None, None]
    return (clip * factor).astype(np.uint8)


def _cut(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """A cut to another clip, not within two frames of an end."""
    start = int(rng.integers(3, len(clip) - 3))
    return np.concatenate([clip[:start], other[start:]])


def _blur(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Blurred by 3 % of the shorter side."""
    sigma = 0.03 * min(clip.shape[1:3])
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip])


def _blocks(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Each block of 8 pixels drawn half-way to its mean."""
    height, width = clip.shape[1:3]
    made = []
    for frame in clip:
        small = cv2.resize(frame, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
        flat = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
        made.append(((frame.astype(np.int32) + flat) // 2).astype(np.uint8))
    return np.stack(made)


def _jitter(clip: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    """Noise of its own in every frame, of 5 levels."""
    noise = rng.normal(0, 5, clip.shape)
    return np.clip(clip + noise, 0, 255).astype(np.uint8)


FAULTS: Mapping[str, PlantedFault] = {
    "frozen from some frame on": PlantedFault(_frozen, "frozen"),
    "two black frames": PlantedFault(_black, "black"),
    "flicker of 10 %": PlantedFault(_flicker, "flicker"),
    "a cut": PlantedFault(_cut, "cuts"),
    "blur": PlantedFault(_blur, "sharpness", higher=False),
    "blocks": PlantedFault(_blocks, "blockiness"),
    "noise that changes every frame": PlantedFault(_jitter, "warping_error"),
}


def cropped(clip: Frames, share: float) -> Frames:
    """The clip without so much of each border, in its old size."""
    height, width = clip.shape[1:3]
    y, x = round(height * share), round(width * share)
    inner = clip[:, y : height - y, x : width - x]
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in inner])
