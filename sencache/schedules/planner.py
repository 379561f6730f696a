"""Which steps of a run to compute, for an exact budget: dynamic programming over the drift.

Between two computed steps all steps are forecast from the last computed ones. At the computed step
that ends a gap the truth is known at both ends, so what the steps in between should have been is
known far better than when they were forecast; the sampler is given the difference along with that
step's own output (the *repair*, which makes up for the latents' error exactly for samplers that
are linear in the outputs). What is left of a gap is the error of the interpolation, and that the
network saw latents that were slightly off at one step.

So the error of a plan is a sum over its gaps, each of which depends on the anchors before it and
on the step that ends it: the vector sum of the steps' errors times their moves, times the gain that
an error made there has on the way to the clip. Plans of this kind for hold: LeMiCa, GCache, SODA;
over triples of steps: DPCache (all 2025-26).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.weights import Forecast, best_weights, combined_error

MAX_GAP = 12
"""Most steps forecast in a row."""
SHOWN = 0.2
"""Share of a forecast's error that stays after a repair, through what the network made of it."""
MAX_REPAIR = 24.0
"""Largest repair, in moves of the step that it is given along with."""


@dataclass(frozen=True)
class CacheSchedule:
    """A schedule with an exact number of network evaluations.

    Attributes:
        steps: Steps of the run.
        computed: Steps at which the network runs, rising; the first is 0.
        mixes: What the sampler is given at a step, as a sum of computed outputs, where that is
            not the step's own output.
        error: Rms error of the latents at the end that the drift predicts.
        checks: For each computed step with anchors, how it would have been forecast, and the rms
            error of that.
    """

    steps: int
    computed: tuple[int, ...]
    mixes: Mapping[int, Forecast]
    error: float
    checks: Mapping[int, tuple[Forecast, float]] = field(default_factory=dict)

    def after(self, steps: int) -> CacheSchedule:
        """The same plan for a run that joins the schedule so many steps late."""
        return CacheSchedule(
            self.steps + steps,
            tuple(step + steps for step in self.computed),
            {step + steps: mix.shifted(steps) for step, mix in self.mixes.items()},
            self.error,
            {step + steps: (mix.shifted(steps), e) for step, (mix, e) in self.checks.items()},
        )


def computed_steps(budget: float, steps: int) -> int:
    """Whole number of computed steps that a budget, a share of the steps, allows; 2 at least."""
    return max(min(2, steps), min(steps, round(budget * steps)))


def least_computed(steps: int, cuts: Sequence[int] = ()) -> int:
    """Fewest computed steps that a plan can have: no gap may be longer than :data:`MAX_GAP`."""
    ends = [0, *cuts, steps - 1]
    gaps = [after - before - 1 for before, after in itertools.pairwise(ends)]
    return len(ends) + sum(gap // (MAX_GAP + 1) for gap in gaps)


def make_plan(
    drift: OutputDrift,
    moves: Sequence[float],
    computed: int,
    *,
    order: int = 1,
    repair: bool = True,
    power: float = 2.0,
    cuts: Sequence[int] = (),
    prefix: Sequence[int] = (),
) -> CacheSchedule:
    """The best plan with exactly so many computed steps, the first and the last among them.

    Args:
        drift: Of the run to plan: its times are the run's.
        moves: Of the sampler (:func:`sencache.schedules.sampler_moves.step_moves`), shape [T].
        computed: Steps to compute.
        order: Of the forecast: 0 hold, 1 linear, 2 quadratic, from one more anchor than that.
        repair: Whether computed steps make up for the forecasts before them.
        power: The errors of the gaps are raised to it and summed; large values punish the worst.
        cuts: Steps at which another network takes over: they are computed, and no forecast or
            repair reaches across.
        prefix: The first computed steps, where a run has made them already; empty if it has not.

    Raises:
        ValueError: No such plan: too few or too many steps to compute, or an order below 0.
    """
    gaps = _Gaps(drift, moves, order, repair, power)
    steps, last = drift.steps, drift.steps - 1
    must = sorted({*cuts, last})
    if not 1 + len(must) <= computed <= steps:
        raise ValueError(
            f"cannot compute {computed} of {steps} steps; {1 + len(must)} to {steps} can be"
        )
    # The last anchors, rising, lead to the cheapest way there and the anchors before it.
    layers: list[dict[tuple[int, ...], tuple[float, tuple[int, ...] | None]]] = [
        {(0,): (0.0, None)}
    ]
    for count in range(1, computed):
        left = computed - count - 1  # still to place behind this one
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
    return plan_of(drift, moves, tuple(reversed(path)), order=order, repair=repair, cuts=cuts)


planned = functools.lru_cache(maxsize=64)(make_plan)
"""`make_plan`, remembered: it takes seconds for a long run, and plans are values."""


def plan_of(
    drift: OutputDrift,
    moves: Sequence[float],
    computed: Sequence[int],
    *,
    order: int = 1,
    repair: bool = True,
    cuts: Sequence[int] = (),
) -> CacheSchedule:
    """The plan that computes given steps, with the best forecasts of all others.

    Args:
        drift: Of the run.
        moves: Of the sampler, shape [T].
        computed: Steps to compute, rising; the first is 0.
        order: See :func:`make_plan`, likewise the rest.
        repair: Likewise.
        cuts: Likewise.

    Raises:
        ValueError: The first computed step is not 0, or an order below 0.
    """
    if not computed or computed[0] != 0:
        raise ValueError(f"a plan computes step 0 first; these do not: {tuple(computed)}")
    gaps = _Gaps(drift, moves, order, repair, 2.0)
    mixes: dict[int, Forecast] = {}
    checks: dict[int, tuple[Forecast, float]] = {}
    total = 0.0
    anchors: tuple[int, ...] = (0,)
    for end in (*computed[1:], drift.steps):
        whole = end not in cuts and end < drift.steps
        mixes |= gaps.forecasts(anchors, end)
        if whole:
            checks[end] = gaps.check(anchors, end)
            mending = gaps.mending(anchors, end)
            if mending is not None:
                mixes[end] = mending
        total += gaps.cost(anchors, end, whole=whole)
        anchors = (end,) if end in cuts else (*anchors, end)[-(order + 1) :]
    return CacheSchedule(drift.steps, tuple(computed), mixes, float(np.sqrt(total)), checks)


class _Gaps:
    """What the gaps of a run cost, and how they are filled; each worked out once."""

    def __init__(
        self,
        drift: OutputDrift,
        moves: Sequence[float],
        order: int,
        repair: bool,
        power: float,
    ) -> None:
        if order < 0:
            raise ValueError(f"order is {order}; it must be 0 (hold) or more")
        self._distances, self._repair, self._power = drift.matrix(), repair, power
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
        """How the step that ends a gap would have been forecast, and the rms error of that."""
        weights = self._all(anchors, range(end, end + 1))
        error = combined_error(self._distances, [end], anchors, weights, np.ones(1))
        return Forecast(anchors, tuple(weights[0].tolist())), error

    def mending(self, anchors: tuple[int, ...], end: int) -> Forecast | None:
        """What the sampler is given at `end` to make up for the gap before it; None: its output."""
        steps = range(anchors[-1] + 1, end)
        if not self._repair or not steps or not self._can_mend(steps, end):
            return None
        moves = self._moves[list(steps)][:, None]
        known = (moves * self._all((*anchors, end), steps)).sum(0)
        given = (moves * self._all(anchors, steps)).sum(0)
        weights = (known - np.append(given, 0.0)) / self._moves[end]
        weights[-1] += 1.0
        return Forecast((*anchors, end), tuple(weights.tolist()))

    def cost(self, anchors: tuple[int, ...], end: int, *, whole: bool) -> float:
        """Error that the steps between the last anchor and `end` leave, to the power.

        Args:
            anchors: Computed steps before the gap.
            end: Step that ends it.
            whole: Whether `end` is computed by the same network, so that it can mend the gap.
        """
        steps = range(anchors[-1] + 1, end)
        if not steps:
            return 0.0
        key = (anchors, end, whole)
        if key not in self._costs:
            error = self._error(anchors, steps)
            if whole and self._repair and self._can_mend(steps, end):
                error = float(np.hypot(self._error((*anchors, end), steps), SHOWN * error))
            self._costs[key] = error**self._power
        return self._costs[key]

    def _error(self, anchors: tuple[int, ...], steps: range) -> float:
        moves = (self._moves * self._gain)[list(steps)]
        return combined_error(self._distances, steps, anchors, self._all(anchors, steps), moves)

    def _can_mend(self, steps: range, end: int) -> bool:
        return bool(abs(self._moves[list(steps)]).sum() <= MAX_REPAIR * abs(self._moves[end]))

    def _all(self, anchors: tuple[int, ...], steps: range) -> Array:
        """Weights of the anchors for each step, shape [steps, anchors]."""
        if anchors not in self._weights:
            self._weights[anchors] = best_weights(self._distances, anchors)
        return self._weights[anchors][steps.start : steps.stop]
