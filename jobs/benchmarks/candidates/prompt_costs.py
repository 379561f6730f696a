"""What each arm spent on each prompt and what it got: yield, costs of a good clip, differences.

The clip of a prompt is its last try. All intervals are bootstraps of 95 % over prompts; those of
differences and ratios draw the same prompts for both arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.benchmarks.quality.intervals import LEVEL, RESAMPLES, Interval, interval, paired

Floats = npt.NDArray[np.float64]
HOUR = 3600.0


class PromptTry(NamedTuple):
    """A clip that was made for a prompt, or a draft.

    Attributes:
        nfe: Evaluations, in steps.
        cpu_s: CPU seconds of the engine's call: text, denoising, decoding.
        denoise_s: Those of denoising.
        score: Of the judge.
        good: Whether it is a good clip.
    """

    nfe: int
    cpu_s: float
    denoise_s: float
    score: float
    good: bool


@dataclass(frozen=True, slots=True)
class ArmCosts:
    """One line of the table.

    Attributes:
        arm: Its name.
        nfe: Evaluations per prompt, of all its clips and drafts, mean.
        cpu_s: CPU seconds per prompt.
        cpu_ratio: The same over that of the first arm.
        denoise_ratio: Seconds of denoising over those of the first arm.
        good: Share of the prompts whose clip is good.
        score: Of the judge, mean over prompts.
        score_gain: Score less that of the first arm, clip by clip.
        nfe_per_good: Evaluations per good clip.
        cpu_s_per_good: CPU seconds per good clip.
        dollars_per_good: $ per 1,000 good clips.
    """

    arm: str
    nfe: float
    cpu_s: Interval
    cpu_ratio: Interval
    denoise_ratio: Interval
    good: Interval
    score: Interval
    score_gain: Interval
    nfe_per_good: Interval
    cpu_s_per_good: Interval
    dollars_per_good: Interval


def summaries(tries: Mapping[str, Sequence[Sequence[Any]]], price: float) -> list[ArmCosts]:
    """Summarise arms; the first is what others are held to.

    Args:
        tries: Per arm and prompt the values of `PromptTry`; arms have the same prompts.
        price: $ per hour of a core.
    """
    arms = {
        name: [[PromptTry(*values) for values in prompt] for prompt in prompts]
        for name, prompts in tries.items()
    }
    first = next(iter(arms.values()))
    return [_summary(name, own, first, price) for name, own in arms.items()]


def _summary(
    name: str,
    own: Sequence[Sequence[PromptTry]],
    first: Sequence[Sequence[PromptTry]],
    price: float,
) -> ArmCosts:
    good = np.array([float(prompt[-1].good) for prompt in own])
    nfe = _sums(own, "nfe")
    cpu, denoise = _sums(own, "cpu_s"), _sums(own, "denoise_s")
    scores = [prompt[-1].score for prompt in own]
    per_good = ratio(cpu, good)
    dollars = 1000 * price / HOUR
    return ArmCosts(
        arm=name,
        nfe=float(nfe.mean()),
        cpu_s=interval(cpu.tolist()),
        cpu_ratio=ratio(cpu, _sums(first, "cpu_s")),
        denoise_ratio=ratio(denoise, _sums(first, "denoise_s")),
        good=interval(good.tolist()),
        score=interval(scores),
        score_gain=paired(scores, [prompt[-1].score for prompt in first]),
        nfe_per_good=ratio(nfe, good),
        cpu_s_per_good=per_good,
        dollars_per_good=Interval(
            per_good.mean * dollars, per_good.low * dollars, per_good.high * dollars
        ),
    )


def _sums(prompts: Sequence[Sequence[PromptTry]], name: str) -> Floats:
    return np.array([sum(getattr(each, name) for each in prompt) for prompt in prompts])


def ratio(above: Floats, below: Floats, seed: int = 0) -> Interval:
    """Sum over sum, with a bootstrap over prompts; infinite where nothing is below."""
    draws = np.random.default_rng(seed).integers(0, len(above), (RESAMPLES, len(above)))
    tail = (1 - LEVEL) / 2 * 100
    with np.errstate(divide="ignore"):
        found = above[draws].sum(1) / below[draws].sum(1)
        value = float(above.sum() / below.sum())
    # An infinite ratio cannot be interpolated.
    low, high = np.percentile(found, [tail, 100 - tail], method="nearest")
    return Interval(value, float(low), float(high))
