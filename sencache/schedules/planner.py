"""The cache schedule of a run for an exact budget: dynamic programming over the drift.

Between two computed steps all steps are forecast from the last computed ones. At the computed step
that ends such a gap the true output is known at both ends, so the outputs of the steps in between
are known far better than when they were forecast. The sampler gets the difference together with
that step's own output (the *repair*, which undoes the latents' error exactly for samplers that are
linear in the outputs). What remains is the error of the interpolation, and the effect of slightly
wrong latents on the network at that one step.

So the error of a schedule is a sum over its gaps, each of which depends on the anchors before it
and on the step that ends it: the vector sum of the steps' errors times their moves, times the gain
of an error from there to the clip. Schedules of this kind for held outputs: LeMiCa, GCache, SODA;
over triples of steps: DPCache (all 2025-26).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sencache.schedules.budget import MAX_GAP
from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.weights import Forecast, best_weights, combined_error

SHOWN = 0.2
"""Share of a forecast's error that stays after a repair, because the network saw wrong latents."""
MAX_REPAIR = 24.0
"""Largest repair, in moves of the step whose output it is added to."""


@dataclass(frozen=True)
class CacheSchedule:
    """Which steps of a run the network computes, and what the sampler gets at the others.

    Attributes:
        steps: Steps of the run.
        computed: Steps at which the network runs, rising; the first is 0.
        forecasts: What the sampler gets at a step, as a sum of computed outputs, where that is
            not the step's own output.
        error: Rms error of the latents at the end that the drift predicts.
        checks: For each computed step with anchors, its forecast if it were not computed, and the
            expected rms error of that.
    """

    steps: int
    computed: tuple[int, ...]
    forecasts: Mapping[int, Forecast]
    error: float
    checks: Mapping[int, tuple[Forecast, float]] = field(default_factory=dict)

    def after(self, steps: int) -> CacheSchedule:
        """The same schedule for a run that skips the first `steps` steps of the sampler."""
        return CacheSchedule(
            self.steps + steps,
            tuple(step + steps for step in self.computed),
            {step + steps: each.shifted(steps) for step, each in self.forecasts.items()},
            self.error,
            {step + steps: (each.shifted(steps), e) for step, (each, e) in self.checks.items()},
        )


def make_schedule(
    drift: OutputDrift,
    moves: Sequence[float],
    computed: int,
    *,
    order: int = 1,
    repair: bool = True,
    cuts: Sequence[int] = (),
    prefix: Sequence[int] = (),
) -> CacheSchedule:
    """The best schedule of an exact number of computed steps, which include the first and the last.

    Args:
        drift: Of the run, at the times of its steps.
        moves: Of the sampler (:func:`sencache.schedules.sampler_moves.step_moves`), shape [T].
        computed: Steps to compute.
        order: Of the forecast: 0 hold, 1 linear, 2 quadratic; uses order + 1 anchors.
        repair: Whether computed steps undo the errors of the forecasts before them.
        cuts: Steps at which another network takes over: they are computed, and no forecast or
            repair crosses them.
        prefix: The first computed steps, where they are given.

    Raises:
        ValueError: Too few or too many steps to compute, or an order below 0.
    """
    gaps = _Gaps(drift, moves, order, repair)
    steps, last = drift.steps, drift.steps - 1
    must = sorted({*cuts, last})
    if not 1 + len(must) <= computed <= steps:
        raise ValueError(
            f"cannot compute {computed} of {steps} steps; {1 + len(must)} to {steps} can be"
        )
    # Per number of computed steps: the last anchors, rising, with the least error that leads to
    # them and the anchors before.
    layers: list[dict[tuple[int, ...], tuple[float, tuple[int, ...] | None]]] = [
        {(0,): (0.0, None)}
    ]
    for count in range(1, computed):
        left = computed - count - 1  # still to place after this one
        layer: dict[tuple[int, ...], tuple[float, tuple[int, ...] | None]] = {}
        for anchors, (spent, _) in layers[-1].items():
            if anchors[-1] == last:
                continue
            bound = next(step for step in must if step > anchors[-1])
            for step in range(anchors[-1] + 1, min(anchors[-1] + MAX_GAP + 1, bound) + 1):
                if not left <= last - step <= left * (MAX_GAP + 1):
                    continue
                if count < len(prefix) and step != prefix[count]:
                    continue
                total = spent + gaps.cost(anchors, step, whole=step not in cuts)
                after = (step,) if step in cuts else (*anchors, step)[-(order + 1) :]
                if after not in layer or total < layer[after][0]:
                    layer[after] = (total, anchors)
        layers.append(layer)
    ends = [state for state in layers[-1] if state[-1] == last]
    if not ends:
        raise ValueError(
            f"cannot compute {computed} of {steps} steps with at most {MAX_GAP} forecast in a row"
        )
    state: tuple[int, ...] | None = min(ends, key=lambda each: layers[-1][each][0])
    path: list[int] = []
    for layer in reversed(layers):
        if state is not None:
            path.append(state[-1])
            state = layer[state][1]
    return schedule_of(drift, moves, tuple(reversed(path)), order=order, repair=repair, cuts=cuts)


planned_schedule = functools.lru_cache(maxsize=64)(make_schedule)
"""`make_schedule` with a cache of results: it takes seconds for a long run."""


def schedule_of(
    drift: OutputDrift,
    moves: Sequence[float],
    computed: Sequence[int],
    *,
    order: int = 1,
    repair: bool = True,
    cuts: Sequence[int] = (),
) -> CacheSchedule:
    """The schedule that computes given steps, with the best forecasts of all others.

    Args:
        drift: Of the run.
        moves: Of the sampler, shape [T].
        computed: Steps to compute, rising; the first is 0.
        order: As for :func:`make_schedule`.
        repair: As for :func:`make_schedule`.
        cuts: As for :func:`make_schedule`.

    Raises:
        ValueError: The first computed step is not 0, or an order below 0.
    """
    if not computed or computed[0] != 0:
        raise ValueError(f"a plan computes step 0 first; these do not: {tuple(computed)}")
    gaps = _Gaps(drift, moves, order, repair)
    forecasts: dict[int, Forecast] = {}
    checks: dict[int, tuple[Forecast, float]] = {}
    total = 0.0
    anchors: tuple[int, ...] = (0,)
    for end in (*computed[1:], drift.steps):
        whole = end not in cuts and end < drift.steps
        forecasts |= gaps.forecasts(anchors, end)
        if whole:
            checks[end] = gaps.check(anchors, end)
            repaired = gaps.repaired(anchors, end)
            if repaired is not None:
                forecasts[end] = repaired
        total += gaps.cost(anchors, end, whole=whole)
        anchors = (end,) if end in cuts else (*anchors, end)[-(order + 1) :]
    return CacheSchedule(drift.steps, tuple(computed), forecasts, float(np.sqrt(total)), checks)


class _Gaps:
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
