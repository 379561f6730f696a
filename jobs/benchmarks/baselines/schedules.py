"""Baselines with a fixed schedule: every clip computes the same steps.

Necessary comparisons: the paper's own fast setting is within one evaluation of "the first fifth,
then every fourth step, hold" (arXiv 2602.24208, table of results), and a TaylorSeer at its best
(arXiv 2503.06923) amounts to evenly spaced steps with a linear forecast of the output.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from jobs.benchmarks.baselines.base import Decisions, Scheduled, UnsupportedError
from sencache import Family
from sencache.extension import (
    CacheSchedule,
    Forecast,
    ForecastReuse,
    PlannedPolicy,
    SamplerPosition,
    apply_policy,
)


@dataclass(frozen=True)
class FixedSchedule(Scheduled):
    """A schedule laid out by step index.

    Attributes:
        computed: Steps that are computed.
        steps: Steps of the run.
    """

    computed: int = 0
    steps: int = 0

    def budgeted(self, computed: int, steps: int) -> Self:
        """The same method with `computed` of `steps` steps."""
        chosen = replace(self, computed=computed, steps=steps)
        if len(chosen.layout()) != computed:
            raise UnsupportedError(f"{self.name} has no schedule of {computed} of {steps} steps")
        return chosen

    @abstractmethod
    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising."""

    def forecast(
        self, anchors: Sequence[int], step: int, times: Sequence[float]
    ) -> Forecast | None:
        """The forecast of a step that is not computed; None holds the last output."""
        return None

    @property
    def order(self) -> int:
        """Outputs before the last that a forecast uses."""
        return 0

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        unit = int(pipe.scheduler.config["num_train_timesteps"])

        def make(
            _name: str, _network: torch.nn.Module, _family: Family, sampler: SamplerPosition
        ) -> tuple[PlannedPolicy, ForecastReuse]:
            return PlannedPolicy(self._plan, sampler, unit), ForecastReuse(self.order)

        with apply_policy(pipe, make) as handle:
            yield lambda: [sample.decisions for sample in handle.stats()]

    def _plan(
        self, times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]
    ) -> CacheSchedule:
        if len(times) != self.steps:
            raise UnsupportedError(
                f"{self.name} was laid out for {self.steps} steps, the run has {len(times)}"
            )
        layout = self.layout()
        forecasts = {}
        for step in sorted(set(range(self.steps)) - set(layout)):
            anchors = [anchor for anchor in layout if anchor < step][-(self.order + 1) :]
            forecast = self.forecast(anchors, step, times)
            if forecast is not None:
                forecasts[step] = forecast
        return CacheSchedule(self.steps, layout, forecasts, 0.0)


def _evenly(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` whole numbers from first to last, as evenly spaced as possible."""
    return tuple(sorted(set(np.linspace(first, last, count).round().astype(int).tolist())))


class UniformSkipping(FixedSchedule):
    """Evenly spaced computed steps, the first and the last among them; the others hold."""

    name = "uniform"
    source = "every k-th step, the baseline of TeaCache (arXiv 2411.19108) and its followers"

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising."""
        return _evenly(0, self.steps - 1, self.computed)


class FirstThenEvery(FixedSchedule):
    """The first fifth of the steps, then evenly spaced ones to the last; the others hold."""

    name = "first-then-every"
    source = "what SenCache's fast setting amounts to (arXiv 2602.24208: 20 % strict, then n = 3)"

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising."""
        first = round(self.steps / 5)
        if self.computed <= first:
            return ()
        return (*range(first), *_evenly(first, self.steps - 1, self.computed - first))


@dataclass(frozen=True)
class UniformTaylor(FixedSchedule):
    """Evenly spaced computed steps; the others extrapolate the output over time.

    Divided differences over the times themselves, because a flow shift makes steps uneven.

    Attributes:
        taylor_order: 1 for a line through the last two outputs, 2 for a parabola.
    """

    taylor_order: int = 1

    name = "uniform-taylor"
    source = "TaylorSeer (arXiv 2503.06923, eq. 4), on the network's output and uneven times"

    @property
    def order(self) -> int:
        """Outputs before the last that a forecast uses."""
        return self.taylor_order

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising."""
        return _evenly(0, self.steps - 1, self.computed)

    def forecast(
        self, anchors: Sequence[int], step: int, times: Sequence[float]
    ) -> Forecast | None:
        """The polynomial through the anchors, at the step (Lagrange's form)."""
        weights = []
        for anchor in anchors:
            others = [other for other in anchors if other != anchor]
            factors = [(times[step] - times[o]) / (times[anchor] - times[o]) for o in others]
            weights.append(float(np.prod(factors)))
        return Forecast(tuple(anchors), tuple(weights))
