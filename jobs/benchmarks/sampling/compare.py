"""Compares cached with uncached sampling of one model: NFE, wall time and PSNR.

Every arm makes the same clips from the same seeds with the same sampler. Arms take turns batch by
batch, so a drift of the machine affects all of them alike. PSNR is to the uncached clip of the same
seed; it shows how much caching changed the clip, not how good the clip is.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.engine.protocol import Engine
from pipeline.requests.sample_request import SampleRequest

CONTROL = "uncached"
MAX_PSNR_DB = 100.0
"""The PSNR that is reported for equal frames, whose PSNR is infinite."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """The numbers of one arm over all clips.

    Attributes:
        name: Name of the arm.
        nfe_mean: Mean network evaluations per clip, in steps.
        nfe_max: Largest network evaluations of a clip, in steps.
        wall_s: Seconds in the engine for all clips, text encoding and decoding included.
        wall_ratio: Uncached wall seconds / this arm's: the measured speed-up.
        psnr_mean_db: Mean PSNR to the uncached clip.
        psnr_ci95_db: Half-width of the 95 % interval of that mean (normal approximation).
        psnr_min_db: PSNR of the worst clip.
    """

    name: str
    nfe_mean: float
    nfe_max: int
    wall_s: float
    wall_ratio: float
    psnr_mean_db: float
    psnr_ci95_db: float
    psnr_min_db: float


def compare(
    engine: Engine,
    arms: Mapping[str, Sequence[SampleRequest]],
    *,
    batch_rows: int,
) -> list[ArmResult]:
    """Run every arm over its requests and compare each with `CONTROL`.

    Args:
        engine: A loaded model.
        arms: Requests by arm; position i is the same clip in every arm. Must contain `CONTROL`.
        batch_rows: Samples per engine call.

    Returns:
        One result per arm, in the order of `arms`.

    Raises:
        ValueError: There is no control, or arms differ in length.
    """
    if CONTROL not in arms or len({len(requests) for requests in arms.values()}) != 1:
        raise ValueError(f"arms must have one length and hold {CONTROL!r}")
    count = len(arms[CONTROL])
    frames: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in arms}
    nfe: dict[str, list[int]] = {name: [] for name in arms}
    wall = dict.fromkeys(arms, 0.0)
    engine.generate(arms[CONTROL][:batch_rows])  # warm-up: the first call pays for allocations
    for start in range(0, count, batch_rows):
        for name, requests in arms.items():
            batch = requests[start : start + batch_rows]
            began = time.perf_counter()
            clips = engine.generate(batch)
            wall[name] += time.perf_counter() - began
            frames[name] += [clip.frames for clip in clips]
            nfe[name] += [clip.cache["nfe"] for clip in clips]
    results = []
    for name in arms:
        decibels = [psnr(a, b) for a, b in zip(frames[name], frames[CONTROL], strict=True)]
        spread = statistics.stdev(decibels) if count > 1 else 0.0
        results.append(
            ArmResult(
                name,
                statistics.fmean(nfe[name]),
                max(nfe[name]),
                wall[name],
                wall[CONTROL] / wall[name],
                statistics.fmean(decibels),
                1.96 * spread / math.sqrt(count),
                min(decibels),
            )
        )
    return results


def fewer_steps(requests: Sequence[SampleRequest], steps: int) -> list[SampleRequest]:
    """Return the same clips with another number of sampler steps: the baseline without a cache."""
    return [dataclasses.replace(request, num_inference_steps=steps) for request in requests]


def psnr(clip: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Return the peak signal-to-noise ratio of two uint8 clips in dB, up to `MAX_PSNR_DB`."""
    error = np.mean((clip.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return MAX_PSNR_DB if error == 0 else min(MAX_PSNR_DB, 10 * math.log10(255**2 / error))
