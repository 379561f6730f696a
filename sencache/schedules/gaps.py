"""Errors and forecasts of the gaps between computed steps, each found once per run.

What a gap costs, and what the sampler gets in it, depends on the anchors before it and on the step
that ends it. How gaps are put together to a schedule: `sencache.schedules.planner`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.weights import Forecast, best_weights, combined_error

SHOWN = 0.2
"""Share of a forecast's error that stays after a repair, because the network saw wrong latents."""
MAX_REPAIR = 24.0
"""Largest repair, in moves of the step whose output it is added to."""


class Gaps:
    """Errors and forecasts of the gaps of a run, each computed once."""

    def __init__(
        self,
        drift: OutputDrift,
        moves: Sequence[float],
        order: int,
        repair: bool,
    ) -> None:
        if order < 0:
            raise ValueError(f"order is {order}; it must be 0 (hold) or more")
        self._distances, self._repair = drift.matrix(), repair
        self._moves, self._gain = np.array(moves), np.array(drift.gain)
        self._costs: dict[tuple[tuple[int, ...], int, bool], float] = {}
        self._weights: dict[tuple[int, ...], Array] = {}

    def forecasts(self, anchors: tuple[int, ...], end: int) -> dict[int, Forecast]:
        """How each step between the last anchor and `end` is forecast."""
        steps = range(anchors[-1] + 1, end)
        return {
            step: Forecast(anchors, tuple(weights))
            for step, weights in zip(steps, self._all(anchors, steps).tolist(), strict=True)
        }

    def check(self, anchors: tuple[int, ...], end: int) -> tuple[Forecast, float]:
        """The forecast of the step that ends a gap, and the expected rms error of it."""
        weights = self._all(anchors, range(end, end + 1))
        error = combined_error(self._distances, [end], anchors, weights, np.ones(1))
        return Forecast(anchors, tuple(weights[0].tolist())), error

    def repaired(self, anchors: tuple[int, ...], end: int) -> Forecast | None:
        """The output at `end` with the repair of the gap before it; None: without a repair."""
        steps = range(anchors[-1] + 1, end)
        if not self._repair or not steps or not self._can_repair(steps, end):
            return None
        moves = self._moves[list(steps)][:, None]
        known = (moves * self._all((*anchors, end), steps)).sum(0)
        given = (moves * self._all(anchors, steps)).sum(0)
        weights = (known - np.append(given, 0.0)) / self._moves[end]
        weights[-1] += 1.0
        return Forecast((*anchors, end), tuple(weights.tolist()))

    def cost(self, anchors: tuple[int, ...], end: int, *, whole: bool) -> float:
        """Square of the error that the steps between the last anchor and `end` leave.

        Args:
            anchors: Computed steps before the gap.
            end: Step that ends it.
            whole: Whether the same network computes `end`, so that a repair is possible.
        """
        steps = range(anchors[-1] + 1, end)
        if not steps:
            return 0.0
        key = (anchors, end, whole)
        if key not in self._costs:
            error = self._error(anchors, steps)
            if whole and self._repair and self._can_repair(steps, end):
                error = float(np.hypot(self._error((*anchors, end), steps), SHOWN * error))
            self._costs[key] = error**2.0
        return self._costs[key]

    def _error(self, anchors: tuple[int, ...], steps: range) -> float:
        moves = (self._moves * self._gain)[list(steps)]
        return combined_error(self._distances, steps, anchors, self._all(anchors, steps), moves)

    def _can_repair(self, steps: range, end: int) -> bool:
        return bool(abs(self._moves[list(steps)]).sum() <= MAX_REPAIR * abs(self._moves[end]))

    def _all(self, anchors: tuple[int, ...], steps: range) -> Array:
        """Weights of the anchors for each step, shape [steps, anchors]."""
        if anchors not in self._weights:
            self._weights[anchors] = best_weights(self._distances, anchors)
        return self._weights[anchors][steps.start : steps.stop]
