"""Weights of a forecast: which sum of computed outputs comes nearest to the output of a step.

The weights add up to 1. One output is held; two give a damped linear extrapolation; three a damped
parabola. The weights minimise the mean square error on the calibration runs (ordinary kriging on
the measured drift) for each step and its anchors, whatever the length of the gap and the spacing of
the steps. On the calibration runs no forecast is worse than holding the last output. The sums
themselves are computed in `sencache.reuse.forecast`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sencache.schedules.drift import Array

NUGGET = 1e-9
"""Share of the largest distance that is added to the diagonal, to keep the system solvable."""


@dataclass(frozen=True)
class Forecast:
    """What the sampler gets at one step, as a weighted sum of computed outputs.

    Attributes:
        anchors: Computed steps whose outputs are summed, rising; in a repair the step itself is
            the last.
        weights: Their weights; they add up to 1.
    """

    anchors: tuple[int, ...]
    weights: tuple[float, ...]

    def shifted(self, steps: int) -> Forecast:
        """The same forecast, `steps` steps later."""
        return Forecast(tuple(anchor + steps for anchor in self.anchors), self.weights)


def best_weights(distances: Array, anchors: Sequence[int]) -> Array:
    """Weights of the anchors that forecast each step with the smallest mean square error.

    Args:
        distances: D, shape [T, T].
        anchors: Computed steps.

    Returns:
        Shape [T, anchors]; rows add up to 1.
    """
    count, index = len(anchors), list(anchors)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = -distances[np.ix_(index, index)] / 2
    system[:count, :count] += np.eye(count) * NUGGET * distances.max()
    system[count, count] = 0.0
    wanted = np.vstack([-distances[index] / 2, np.ones(len(distances))])
    solved = np.linalg.lstsq(system, wanted, rcond=None)[0]
    weights: Array = solved[:count].T.astype(np.float64)
    return weights / weights.sum(1, keepdims=True)


def combined_error(
    distances: Array, targets: Sequence[int], anchors: Sequence[int], weights: Array, moves: Array
) -> float:
    """Rms error that a run of forecast steps leaves in the latents.

    The errors of neighbouring steps point the same way, so they are summed as vectors, each scaled
    by the sampler's move at its step.

    Args:
        distances: D, shape [T, T].
        targets: Forecast steps.
        anchors: Computed steps that the forecasts use.
        weights: Of the anchors, shape [targets, anchors]; rows add up to 1.
        moves: How far the latents move per unit of output at each target, shape [targets].
    """
    index = [*targets, *anchors]
    vector = np.concatenate([moves, -(moves[:, None] * weights).sum(0)])
    square = -vector @ distances[np.ix_(index, index)] @ vector / 2
    return float(np.sqrt(max(square, 0.0)))
