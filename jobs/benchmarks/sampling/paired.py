"""Arms of one loop that take turns, compared pass by pass with the uncached one.

A ratio is the median over repeats of ratios within a repeat. A drift of the machine, which moves
the passes of a repeat alike, drops out of each; a disturbance of one pass, out of the median.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.benchmarks.sampling.denoising_loop import Arm, DenoisingLoop, Pass


@dataclass(frozen=True, slots=True)
class ArmCost:
    """One arm over all repeats.

    Attributes:
        name: Arm.
        nfe_mean: Network evaluations per row, in steps.
        wall_s: Seconds of the denoising loop, median.
        ratio: Uncached seconds / this arm's, median of the repeats.
        ratio_low: Lower quartile of the same.
        ratio_high: Upper quartile.
        ideal: Steps / mean NFE: the ratio if nothing but the network cost anything.
        efficiency: ratio / ideal.
        cost_percent: What the loop takes longer than uncached, in percent of it; below 0 where
            steps were reused.
    """

    name: str
    nfe_mean: float
    wall_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ideal: float
    efficiency: float
    cost_percent: float


def take_turns(loop: DenoisingLoop, arms: Sequence[Arm], repeats: int) -> list[list[Pass]]:
    """Run every arm `repeats` times, in an order that moves on by one each time.

    Returns:
        Per arm its passes, one per repeat.
    """
    passes: list[list[Pass]] = [[] for _ in arms]
    for arm in arms:
        loop.run(arm)  # warm-up: the first call pays for allocations and lazy imports
    for repeat in range(repeats):
        for position in range(len(arms)):
            index = (position + repeat) % len(arms)
            passes[index].append(loop.run(arms[index]))
    return passes


def compare_costs(
    names: Sequence[str], seconds: Sequence[Sequence[float]], nfe: Sequence[float], steps: int
) -> list[ArmCost]:
    """Set every arm against the first, repeat by repeat.

    Args:
        names: Arms; the first is the uncached control.
        seconds: Per arm the seconds of its repeats.
        nfe: Per arm its mean NFE.
        steps: Steps of the sampler.
    """
    costs = []
    for name, own, evaluations in zip(names, seconds, nfe, strict=True):
        ratios = [control / mine for control, mine in zip(seconds[0], own, strict=True)]
        low, ratio, high = _quartiles(ratios)
        ideal = steps / evaluations
        costs.append(
            ArmCost(
                name=name,
                nfe_mean=evaluations,
                wall_s=statistics.median(own),
                ratio=ratio,
                ratio_low=low,
                ratio_high=high,
                ideal=ideal,
                efficiency=ratio / ideal,
                cost_percent=(1.0 / ratio - 1.0) * 100.0,
            )
        )
    return costs


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
