"""How well something that is known early tells which clips come out worst.

Each predictor is a ridge regression of the clips' PSNR that is fitted on all clips but one and
tried on that one, so it is never judged on what it has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.benchmarks.demo_model.captions import ATTRIBUTES, parse_caption

Array = np.ndarray[Any, np.dtype[np.float64]]

RIDGE = 3.0
"""Weight of the penalty, in clips, on predictors of unit spread."""


def predictors(
    captions: Sequence[str], misses: Sequence[Sequence[float]], psnr: Sequence[float]
) -> dict[str, dict[str, float]]:
    """How well words and first forecasts tell the PSNR of clips.

    Args:
        captions: One per clip.
        misses: Per clip, of its first forecasts.
        psnr: One per clip, in dB.
    """
    decibels = np.asarray(psnr, dtype=np.float64)
    logs = np.log(np.maximum(np.asarray(misses, dtype=np.float64), 1e-6))
    facts = {f"forecasts 1 to {count}": logs[:, :count] for count in (1, 2, 4, 6)}
    facts["words of the caption"] = caption_words(captions)
    facts["both"] = np.concatenate([logs, facts["words of the caption"]], axis=1)
    return {name: judged(leave_one_out(each, decibels), decibels) for name, each in facts.items()}


def caption_words(captions: Sequence[str]) -> Array:
    """Which attributes captions name, shape [clips, words], 0 or 1."""
    named = [dataclasses.asdict(parse_caption(caption)) for caption in captions]
    return np.array(
        [
            [float(each[kind] == word) for kind, words in ATTRIBUTES.items() for word in words]
            for each in named
        ]
    )


def leave_one_out(facts: Array, wanted: Array) -> Array:
    """What a ridge regression on all other clips foretells for each clip, shape [clips].

    Args:
        facts: Shape [clips, facts].
        wanted: Shape [clips].
    """
    found = np.zeros(len(wanted))
    for clip in range(len(wanted)):
        others = np.arange(len(wanted)) != clip
        centre, spread = facts[others].mean(0), facts[others].std(0) + 1e-9
        known, asked = (facts[others] - centre) / spread, (facts[clip] - centre) / spread
        mean = wanted[others].mean()
        penalty = RIDGE * np.eye(facts.shape[1])
        weights = np.linalg.solve(known.T @ known + penalty, known.T @ (wanted[others] - mean))
        found[clip] = mean + asked @ weights
    return found


def judged(foretold: Array, wanted: Array) -> dict[str, float]:
    """How well values were foretold.

    Returns:
        `explained`: share of the variance, below 0 where the mean would do better; `caught`: share
        of the worst tenth that lies in the third that was foretold worst, a third by chance.
    """
    left = float(((wanted - foretold) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum())
    worst = set(np.argsort(wanted)[: max(1, round(len(wanted) / 10))].tolist())
    flagged = set(np.argsort(foretold)[: round(len(wanted) / 3)].tolist())
    return {
        "explained": float(f"{1 - left:.3g}"),
        "caught": float(f"{len(worst & flagged) / len(worst):.3g}"),
    }


def worst_tenth(captions: Sequence[str], psnr: Sequence[float]) -> Mapping[str, float]:
    """Captions and PSNR of the worst tenth, worst first."""
    order = np.argsort(psnr)[: max(1, round(len(psnr) / 10))]
    return {captions[index]: float(psnr[index]) for index in order}
