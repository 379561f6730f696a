"""How well the scores of drafts tell which seed gives the best finished clip.

All numbers are taken within a prompt, over its seeds, and then averaged over prompts; intervals
are bootstraps of 95 % over prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.benchmarks.quality.intervals import Interval, interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DraftAgreement:
    """Drafts of one budget against the finished clips of their seeds.

    Attributes:
        rank_correlation: Spearman's, mean over the prompts that have one.
        undefined: Prompts without one, because all their drafts or finished clips score the same.
        same_seed: Share of prompts whose best draft has the seed of the best finished clip.
        regret: Score of the best finished clip less that of the seed that the drafts choose.
        regret_of_four: The same where the choice is among 4 of the seeds, mean over all such
            choices.
        gain_of_four: Score of the clip that the drafts of 4 seeds choose, less that of a clip of
            any seed.
    """

    rank_correlation: Interval
    undefined: int
    same_seed: Interval
    regret: Interval
    regret_of_four: Interval
    gain_of_four: Interval


def draft_agreement(
    drafts: Sequence[Sequence[float]], finished: Sequence[Sequence[float]]
) -> DraftAgreement:
    """Compare drafts with finished clips.

    Args:
        drafts: Scores per prompt and seed.
        finished: Of the finished clips of the same prompts and seeds.

    Raises:
        ValueError: The shapes differ, or there are fewer than 4 seeds.
    """
    cheap, full = np.asarray(drafts, np.float64), np.asarray(finished, np.float64)
    if cheap.shape != full.shape or cheap.ndim != 2 or cheap.shape[1] < 4:
        raise ValueError(
            f"drafts of shape {cheap.shape} and finished clips of {full.shape}: both need one "
            "score per prompt and seed, of at least 4 seeds"
        )
    correlations = [spearman(*pair) for pair in zip(cheap, full, strict=True)]
    known = [value for value in correlations if value is not None]
    same = (cheap.argmax(1) == full.argmax(1)).astype(np.float64)
    four = chosen_among(cheap, full, 4)
    best = chosen_among(full, full, 4)
    whole = chosen_among(cheap, full, cheap.shape[1])
    return DraftAgreement(
        rank_correlation=interval(known),
        undefined=len(correlations) - len(known),
        same_seed=interval(same.tolist()),
        regret=interval((full.max(1) - whole).tolist()),
        regret_of_four=interval((best - four).tolist()),
        gain_of_four=interval((four - full.mean(1)).tolist()),
    )


def chosen_among(drafts: Floats, finished: Floats, count: int) -> Floats:
    """Score of the finished clip that drafts choose, mean over all choices of so many seeds.

    Args:
        drafts: Scores of shape [prompts, seeds]; of equal drafts the first is chosen.
        finished: Scores of the same shape.
        count: Seeds to choose among.

    Returns:
        Shape [prompts].
    """
    prompts = np.arange(len(drafts))
    found = []
    for some in itertools.combinations(range(drafts.shape[1]), count):
        best = np.asarray(some)[drafts[:, some].argmax(1)]
        found.append(finished[prompts, best])
    return np.asarray(np.mean(found, axis=0), np.float64)


def spearman(one: Floats, other: Floats) -> float | None:
    """Rank correlation of two rows of values; None if either has only equal values."""
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else None


def ranks(values: Floats) -> Floats:
    """Ranks of values; equal values share the mean of theirs."""
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return np.asarray(below + (equal - 1) / 2, np.float64)
