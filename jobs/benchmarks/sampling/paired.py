"""Compares arms of one loop that take turns with the uncached arm, repeat by repeat.

A ratio is the median over repeats of the ratios within a repeat. A drift of the machine affects all
runs of a repeat alike and cancels in the ratio; a disturbance of one run does not move the median.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.benchmarks.sampling.denoising_loop import Arm, DenoisingLoop, LoopRun


@dataclass(frozen=True, slots=True)
class ArmCost:
    """The cost of one arm over all repeats.

    Attributes:
        name: Name of the arm.
        nfe_mean: Network evaluations per row, in steps.
        wall_s: Seconds of the denoising loop, median.
        ratio: Uncached seconds / this arm's, median of the repeats.
        ratio_low: Lower quartile of the ratio.
        ratio_high: Upper quartile of the ratio.
        ideal: Steps / mean NFE: the ratio if only the network took time.
        efficiency: ratio / ideal.
        cost_percent: Additional time of the loop in percent of the uncached loop; negative if
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


def take_turns(loop: DenoisingLoop, arms: Sequence[Arm], repeats: int) -> list[list[LoopRun]]:
    """Run every arm `repeats` times, in an order that rotates by one each time.

    Returns:
        The runs of each arm, one per repeat.
    """
    runs: list[list[LoopRun]] = [[] for _ in arms]
    for arm in arms:
        loop.run(arm)  # warm-up: the first call pays for allocations and lazy imports
    for repeat in range(repeats):
        for position in range(len(arms)):
            index = (position + repeat) % len(arms)
            runs[index].append(loop.run(arms[index]))
    return runs


def compare_costs(
    names: Sequence[str], seconds: Sequence[Sequence[float]], nfe: Sequence[float], steps: int
) -> list[ArmCost]:
    """Compare every arm with the first, repeat by repeat.

    Args:
        names: Names of the arms; the first is the uncached control.
        seconds: Seconds of the repeats, for each arm.
        nfe: Mean NFE of each arm.
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
