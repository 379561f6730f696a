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
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sencache.schedules.budget import MAX_GAP
from sencache.schedules.drift import OutputDrift
from sencache.schedules.gaps import Gaps
from sencache.schedules.weights import Forecast

_Anchors = tuple[int, ...]
_Layer = dict[_Anchors, tuple[float, _Anchors | None]]


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
    max_gap: int = MAX_GAP,
    free_end: bool = False,
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
        max_gap: Most steps that are forecast in a row.
        free_end: Whether the last step may be left to a forecast.

    Raises:
        ValueError: Too few or too many steps to compute, or an order below 0.
    """
    search = _search(
        drift,
        tuple(moves),
        order=order,
        repair=repair,
        cuts=tuple(cuts),
        prefix=tuple(prefix),
        max_gap=max_gap,
        free_end=free_end,
    )
    return search.schedule(computed)


def fewest_steps(
    drift: OutputDrift,
    moves: Sequence[float],
    allowed: float,
    *,
    order: int = 1,
    repair: bool = True,
    cuts: Sequence[int] = (),
) -> CacheSchedule:
    """The best schedule of the fewest computed steps whose predicted error is small enough.

    A larger number is not looked at once one is found. If no number will do, all steps are
    computed.

    Args:
        drift: Of the run, at the times of its steps.
        moves: Of the sampler, shape [T].
        allowed: Largest :attr:`CacheSchedule.error`, in units of the latents.
        order: As for :func:`make_schedule`.
        repair: As for :func:`make_schedule`.
        cuts: As for :func:`make_schedule`.
    """
    search = _search(
        drift,
        tuple(moves),
        order=order,
        repair=repair,
        cuts=tuple(cuts),
        prefix=(),
        max_gap=MAX_GAP,
        free_end=False,
    )
    for computed in range(search.least, drift.steps):
        error = search.error(computed)
        if error is not None and error <= allowed:
            return search.schedule(computed)
    return search.schedule(drift.steps)


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
    gaps = Gaps(drift, moves, order, repair)
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


class _Search:
    """The dynamic programme of one run: the best schedules of 1, 2, 3, ... computed steps.

    A schedule of one more step is found from those of one less, so all budgets of a run together
    cost no more than the largest.
    """

    def __init__(
        self,
        drift: OutputDrift,
        moves: tuple[float, ...],
        order: int,
        repair: bool,
        cuts: tuple[int, ...],
        prefix: tuple[int, ...],
        max_gap: int,
        free_end: bool,
    ) -> None:
        self._max_gap, self._free_end = max_gap, free_end
        self._gaps = Gaps(drift, moves, order, repair)
        self._drift, self._moves, self._order, self._repair = drift, moves, order, repair
        self._cuts, self._prefix, self._last = cuts, prefix, drift.steps - 1
        self._must = sorted({*cuts, self._last})
        self.least = 1 + len(self._must)
        # Per number of computed steps: the last anchors, rising, with the least error that leads
        # to them and the anchors before.
        self._layers: list[_Layer] = [{(0,): (0.0, None)}]
        self._lock = threading.Lock()  # searches are shared by all callers of the process

    def error(self, computed: int) -> float | None:
        """Predicted error of the best schedule; None if there is none of so many steps."""
        end = self._end(computed)
        layer = self._layers[computed - 1]
        return None if end is None else float(np.sqrt(self._total(layer, end)))

    def schedule(self, computed: int) -> CacheSchedule:
        """The best schedule of an exact number of computed steps.

        Raises:
            ValueError: There is none of so many steps.
        """
        steps = self._drift.steps
        if not self.least <= computed <= steps:
            raise ValueError(
                f"cannot compute {computed} of {steps} steps; {self.least} to {steps} can be"
            )
        state = self._end(computed)
        if state is None:
            raise ValueError(
                f"cannot compute {computed} of {steps} steps with at most {self._max_gap} forecast "
                "in a row"
            )
        path: list[int] = []
        for layer in reversed(self._layers[:computed]):
            if state is not None:
                path.append(state[-1])
                state = layer[state][1]
        return schedule_of(
            self._drift,
            self._moves,
            tuple(reversed(path)),
            order=self._order,
            repair=self._repair,
            cuts=self._cuts,
        )

    def _end(self, computed: int) -> _Anchors | None:
        """The best state that ends a run of so many computed steps."""
        with self._lock:
            while len(self._layers) < computed:
                self._layers.append(self._next_layer())
        layer = self._layers[computed - 1]
        first = self._last
        if self._free_end:
            first = max(first - self._max_gap, *self._cuts, 0)
        ends = [state for state in layer if state[-1] >= first]
        return min(ends, key=lambda each: self._total(layer, each), default=None)

    def _total(self, layer: _Layer, end: _Anchors) -> float:
        """Square of the error of a whole run that computes nothing after `end`."""
        return layer[end][0] + self._gaps.cost(end, self._drift.steps, whole=False)

    def _next_layer(self) -> _Layer:
        count, kept = len(self._layers), self._order + 1
        layer: _Layer = {}
        for anchors, (spent, _) in self._layers[-1].items():
            if anchors[-1] == self._last:
                continue
            bound = next(step for step in self._must if step > anchors[-1])
            for step in range(anchors[-1] + 1, min(anchors[-1] + self._max_gap + 1, bound) + 1):
                if count < len(self._prefix) and step != self._prefix[count]:
                    continue
                cut = step in self._cuts
                total = spent + self._gaps.cost(anchors, step, whole=not cut)
                after = (step,) if cut else (*anchors, step)[-kept:]
                if after not in layer or total < layer[after][0]:
                    layer[after] = (total, anchors)
        return layer


_search = functools.lru_cache(maxsize=16)(_Search)
"""Searches so far: planning a long run takes seconds."""
