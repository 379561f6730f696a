"""Clips that tests of scorers look at: a textured picture that moves, with known faults."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Frames = np.ndarray[Any, np.dtype[np.uint8]]


def picture(seed: int, size: int = 128) -> Frames:
    """A smooth coloured texture of shape (size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (size // 8, size // 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def moving(seed: int = 0, *, frames: int = 16, side: int = 64, step: int = 1) -> Frames:
    """A window of a picture that moves to the right by `step` pixels per frame."""
    whole = picture(seed)
    return np.stack([whole[20 : 20 + side, x : x + side] for x in range(0, frames * step, step)])


def frozen_from(clip: Frames, frame: int) -> Frames:
    """The clip with all frames after `frame` equal to it."""
    return np.concatenate(
        [clip[: frame + 1], np.repeat(clip[frame : frame + 1], len(clip) - frame - 1, 0)]
    )


def flickering(clip: Frames, depth: float = 0.1) -> Frames:
    """The clip with every second frame darker."""
    factor = np.where(np.arange(len(clip)) % 2, 1.0, 1.0 - depth)[:, None, None, None]
    return (clip * factor).astype(np.uint8)


def cut_to(clip: Frames, other: Frames, frame: int) -> Frames:
    """The clip until `frame`, then another one."""
    return np.concatenate([clip[:frame], other[frame:]])


def blurred(clip: Frames, sigma: float = 2.0) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip])


def blocky(clip: Frames, block: int = 8) -> Frames:
    """The clip with each block of pixels drawn half-way to its mean."""
    made = []
    for frame in clip:
        height, width = frame.shape[:2]
        small = cv2.resize(frame, (width // block, height // block), interpolation=cv2.INTER_AREA)
        flat = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
        made.append(((frame.astype(int) + flat) // 2).astype(np.uint8))
    return np.stack(made)


def cropped(clip: Frames, share: float) -> Frames:
    """The clip without its borders, in its old size."""
    height, width = clip.shape[1:3]
    y, x = round(height * share), round(width * share)
    inner = clip[:, y : height - y, x : width - x]
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in inner])
