"""Scorer `movement`: optical flow, warping error, frozen frames, cuts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames, ScoredClip

Plane = np.ndarray[Any, Any]

LONG_SIDE, SHORT_SIDE = 320, 64
"""Flow is computed on frames whose longer side has at most, and whose shorter side has at least, so
many pixels."""

MOST_PAIRS = 32
"""Pairs of neighbouring frames that flow is computed for, evenly spread over longer clips."""

STILL_LEVEL = 4.0
"""A frame repeats the one before if no part of it changes by more levels (of 255). A part is a
32nd of the longer side, and at least 3 pixels."""

CUT_RATIO, CUT_WINDOW = 3.0, 2
"""A cut changes a frame by so many times the median change of as many frames on each side (after
the adaptive detector of PySceneDetect 0.6, which takes the mean), and by a least amount besides."""

CUT_LEVEL = 15.0
"""Least mean change of hue, saturation and value, of 255; the default of that detector. It misses
cuts between clips that move fast."""

CUT_SPREAD = 4.0
"""Least distance between the distributions of the values of a channel, of 255 (Wasserstein-1, mean
over red, green and blue). Movement changes them little, so it finds cuts between clips that move
fast, but not between clips of the same colours."""

CONSISTENT = 0.01, 0.5
"""A pixel counts as visible in both frames if forward and backward flow cancel out within this
share of their squares plus so many squared pixels (Sundaram, Brox and Keutzer 2010)."""


class MovementScorer:
    """Numbers about what changes from frame to frame.

    `motion` is the mean optical flow, in diagonals of the frame per second. `warping_error` is the
    mean difference between a frame and the next one, warped back by the flow, over pixels that are
    visible in both, 0 to 1 (Lai et al. 2018). `frozen` is the longest run of repeated frames as a
    share of the clip. `cuts` is the number of hard cuts.
    """

    name = "movement"
    version = "2"
    scores = ("motion", "warping_error", "frozen", "cuts")

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip.frames, clip.fps) for clip in clips]

    def _one(self, frames: Frames, fps: float) -> Mapping[str, float]:
        # An instance per clip: it keeps buffers, and several threads score at once.
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        lengths, errors = [], []
        for place in _spread(len(frames) - 1, MOST_PAIRS):
            here, then = (_luma(frame) for frame in frames[place : place + 2])
            blank = np.zeros((*here.shape, 2), np.float32)
            forth, back = flow.calc(here, then, blank.copy()), flow.calc(then, here, blank)
            lengths.append(np.linalg.norm(forth, axis=2).mean())
            errors.append(_warping_error(here, then, forth, back))
        diagonal = math.hypot(*_luma(frames[0]).shape)
        known = [each for each in errors if not math.isnan(each)]
        return {
            "motion": float(np.mean(lengths)) / diagonal * fps if lengths else 0.0,
            "warping_error": float(np.mean(known)) if known else 0.0,
            "frozen": _frozen(frames),
            "cuts": float(_cuts(frames)),
        }


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, evenly spread."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def _luma(frame: Plane) -> Plane:
    """The luma of a frame in the size that flow is computed on."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    height, width = luma.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    scale = max(scale, SHORT_SIDE / min(height, width))
    if scale == 1.0:
        return luma
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(luma, size, interpolation=way)


def _warping_error(here: Plane, then: Plane, forth: Plane, back: Plane) -> float:
    """Mean error of the next frame, warped back, where both frames show the same; NaN nowhere."""
    rows, columns = np.mgrid[0 : here.shape[0], 0 : here.shape[1]].astype(np.float32)
    x, y = columns + forth[..., 0], rows + forth[..., 1]
    warped = cv2.remap(then, x, y, cv2.INTER_LINEAR)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR)
    share, pixels = CONSISTENT
    squares = (forth**2).sum(axis=2) + (returned**2).sum(axis=2)
    seen = ((forth + returned) ** 2).sum(axis=2) <= share * squares + pixels
    seen &= (x >= 0) & (y >= 0) & (x <= here.shape[1] - 1) & (y <= here.shape[0] - 1)
    if not seen.any():
        return math.nan
    return float(np.abs(here.astype(np.float32) - warped)[seen].mean() / 255)


def _frozen(frames: Frames) -> float:
    """Longest run of frames that repeat the one before, over all pairs of neighbours."""
    if len(frames) < 2:
        return 0.0
    side = max(3, max(frames.shape[1:3]) // 32)
    longest = run = 0
    for here, then in itertools.pairwise(frames):
        change = cv2.blur(cv2.absdiff(here, then).astype(np.float32), (side, side)).max()
        run = run + 1 if change <= STILL_LEVEL else 0
        longest = max(longest, run)
    return longest / (len(frames) - 1)


def _cuts(frames: Frames) -> int:
    """Hard cuts; a frame that flashes up between two similar ones is none."""
    colours = [cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL) for frame in frames]
    pixels = frames[0].shape[0] * frames[0].shape[1]
    shares = (
        np.stack(
            [
                [cv2.calcHist([frame], [each], None, [256], [0, 256]).ravel() for each in range(3)]
                for frame in frames
            ]
        ).cumsum(axis=2)
        / pixels
    )

    def moved(first: int, second: int) -> float:
        difference = np.abs(colours[second].astype(np.int16) - colours[first])
        hue = difference[..., 0]
        difference[..., 0] = np.minimum(hue, 256 - hue)  # hue is a circle
        return float(difference.mean())

    def recoloured(first: int, second: int) -> float:
        return float(np.abs(shares[second] - shares[first]).sum(axis=1).mean())

    places = _lasting_jumps(moved, len(frames), CUT_LEVEL)
    return len(places | _lasting_jumps(recoloured, len(frames), CUT_SPREAD))


def _lasting_jumps(change: Callable[[int, int], float], count: int, level: float) -> set[int]:
    """Places of frames that differ from the next one by far more than their neighbours do."""

    def between(first: int, second: int) -> float:
        return change(max(first, 0), min(second, count - 1))

    steps = [between(place, place + 1) for place in range(count - 1)]
    found = set()
    for place, step in enumerate(steps):
        if step < level:
            continue
        # Both sides differ beyond the pair of frames, or it is a flash.
        lasting = min(step, between(place - 1, place + 1), between(place, place + 2))
        near = steps[max(0, place - CUT_WINDOW) : place] + steps[place + 1 : place + 1 + CUT_WINDOW]
        usual = float(np.median(near)) if near else 0.0
        if lasting >= max(level, CUT_RATIO * usual):
            found.add(place)
    return found
