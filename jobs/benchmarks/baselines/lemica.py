"""LeMiCa: the cache schedule whose worst gap harms the clip least.

Steps are the nodes of a graph, and an edge from i to j is a gap: i and j are computed, the steps
between hold the output of i. The weight of an edge is what this one gap, alone in a run, does to
the final latents. Of all paths with the wanted number of computed steps the method takes the one
whose largest weight is smallest, then the second largest, and so on.

Written from the paper (arXiv 2511.00090); its code publishes finished schedules, not the search.
The paper measures every edge with a run of its own. Here a grid of edges is measured, and the rest
is interpolated between them on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch

from jobs.benchmarks.baselines.base import Baseline, UnsupportedError
from jobs.benchmarks.baselines.schedules import FixedSchedule

STRIDE = 5
"""Distance between the starts of measured gaps."""
GAPS = (2, 4, 7, 12)
"""Lengths of measured gaps, j - i; the last is the longest that a schedule may have."""
TINY = 1e-12
"""Smallest weight that has a logarithm."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Sampling = Callable[[Baseline | None], torch.Tensor]
"""Samples the same calibration clips under a method, or uncached, and returns their latents."""


@dataclass(frozen=True)
class LeMiCa(FixedSchedule):
    """The lexicographically smallest path; all other steps hold the last output.

    Attributes:
        weights: Mean absolute change of the final latents by the gap from i to j, shape [T, T];
            0 for j = i + 1, infinite for gaps that are too long.
    """

    weights: Array = field(default_factory=lambda: np.zeros((0, 0)), repr=False, compare=False)

    name = "lemica"
    source = "LeMiCa (arXiv 2511.00090), edges measured on a grid and interpolated"

    @classmethod
    def fitted(cls, sampling: Sampling, steps: int) -> Self:
        """The method with the edges of a pipeline.

        Args:
            sampling: Samples calibration clips.
            steps: Of the sampler.
        """
        return cls(weights=edge_weights(sampling, steps))

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising; none if the edges are of another number of steps."""
        if len(self.weights) != self.steps:
            return ()
        return minimax_path(self.weights, self.computed)


@dataclass(frozen=True)
class OneGap(FixedSchedule):
    """A run with a single gap, which holds the output before it.

    Attributes:
        start: Last computed step before the gap.
        end: First computed step after it.
    """

    start: int = 0
    end: int = 0

    name = "one-gap"
    source = "an edge of LeMiCa's graph"

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising."""
        return (*range(self.start + 1), *range(self.end, self.steps))


def edge_weights(
    sampling: Sampling, steps: int, stride: int = STRIDE, gaps: Sequence[int] = GAPS
) -> Array:
    """Weights of all edges, from runs with one gap each.

    Args:
        sampling: Samples calibration clips.
        steps: Of the sampler.
        stride: Distance between the starts of measured gaps; 1 measures every start.
        gaps: Lengths of measured gaps, rising.

    Returns:
        See :attr:`LeMiCa.weights`.
    """
    truth = sampling(None).double()
    measured: dict[tuple[int, int], float] = {}
    for length in gaps:
        starts = {*range(0, steps - length, stride), steps - 1 - length}
        for start in sorted(each for each in starts if each >= 0):
            gap = OneGap(start=start, end=start + length)
            gap = gap.budgeted(steps - length + 1, steps)
            change = sampling(gap).double() - truth
            measured[start, length] = change.abs().mean().item()
    return interpolated(measured, steps)


def interpolated(measured: Mapping[tuple[int, int], float], steps: int) -> Array:
    """Weights of all edges, between those that were measured by start and length.

    Logarithms are linear in the start, and in the logarithm of the length less one.

    Raises:
        UnsupportedError: Nothing was measured.
    """
    if not measured:
        raise UnsupportedError("a run of so few steps has no gap that LeMiCa could measure")
    lengths = sorted({length for _, length in measured})
    rows = []
    for length in lengths:
        starts = sorted(start for start, each in measured if each == length)
        logs = [np.log(max(measured[start, length], TINY)) for start in starts]
        rows.append(np.interp(np.arange(steps), starts, logs))
    by_start = np.array(rows)
    weights = np.full((steps, steps), np.inf)
    for start in range(steps - 1):
        weights[start, start + 1] = 0.0
        for end in range(start + 2, min(start + lengths[-1], steps - 1) + 1):
            held = np.log(end - start - 1)
            known = np.log(np.array(lengths) - 1)
            weights[start, end] = np.exp(np.interp(held, known, by_start[:, start]))
    return weights


def minimax_path(weights: Array, computed: int) -> tuple[int, ...]:
    """The lexicographic minimax path from the first to the last step with so many nodes.

    Paths to one node with equally many edges can be compared before they go on, because the same
    edges follow: adding one weight to two sorted lists keeps their order.

    Args:
        weights: Of the edges, shape [T, T]; infinite where there is none.
        computed: Nodes of the path, its ends included.

    Returns:
        The nodes, rising; empty if there is no such path.
    """
    steps = len(weights)
    best: dict[int, tuple[tuple[float, ...], tuple[int, ...]]] = {0: ((), (0,))}
    for _ in range(computed - 1):
        onward: dict[int, tuple[tuple[float, ...], tuple[int, ...]]] = {}
        for node, (spent, path) in best.items():
            for after in np.flatnonzero(np.isfinite(weights[node])).tolist():
                if after <= node:
                    continue
                falling = tuple(sorted((*spent, float(weights[node, after])), reverse=True))
                if after not in onward or falling < onward[after][0]:
                    onward[after] = (falling, (*path, after))
        best = onward
    return best[steps - 1][1] if steps - 1 in best else ()
