"""The ways to spend very few evaluations that `low-end` compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.baselines import Baseline
from jobs.benchmarks.baselines.base import Decisions
from jobs.benchmarks.baselines.own import Planned
from jobs.benchmarks.quality.denoising import DenoisingRun
from sencache import Family, SensitivityProfile
from sencache.extension import (
    CacheSchedule,
    ForecastReuse,
    PlannedPolicy,
    SamplerPosition,
    apply_policy,
)
from sencache.schedules.budget import LOW_MAX_GAP
from sencache.schedules.planner import make_schedule


@dataclass(frozen=True)
class Way:
    """One way to spend evaluations.

    Attributes:
        text: What it is, for the table.
        of: Steps of the sampler; None: those of the run. Every one of them, if `plans` is false.
        plans: Whether a plan divides the evaluations among the steps.
        fitted: Whether the plan's sums are fitted.
        free: Whether the plan has the freedom of low budgets; None: as its budget says.
        repair: Whether a free plan repairs.
        points: Numbers of evaluations at which it is measured.
    """

    text: str
    of: int | None = None
    plans: bool = True
    fitted: bool = False
    free: bool | None = None
    repair: bool = True
    points: tuple[int, ...] = (5, 6, 8, 10)

    def run(self, sampler: str, steps: int, nfe: int, profile: SensitivityProfile) -> DenoisingRun:
        """How to denoise with so many evaluations.

        Args:
            sampler: Name as in `pipeline.models.samplers`.
            steps: Of a whole run.
            nfe: Evaluations.
            profile: With fitted plans where this way needs them.
        """
        if not self.plans:
            return DenoisingRun(sampler, nfe)
        if self.free is not None:
            return DenoisingRun(sampler, steps, AnyPlan(profile, nfe, self.free, self.repair))
        of = self.of or steps
        return DenoisingRun(sampler, of, Planned(profile).budgeted(nfe, of))


@dataclass(frozen=True)
class AnyPlan(Baseline):
    """A plan with the bounds of larger budgets, or with those of low ones, at any budget.

    Attributes:
        profile: Drift of the model's output.
        nfe: Evaluations.
        free: Whether the last step may be forecast, and up to 24 in a row.
        repair: Whether computed steps undo the errors of forecasts.
    """

    profile: SensitivityProfile
    nfe: int
    free: bool
    repair: bool

    name = "any-plan"
    source = "sencache.schedules.planner"

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        unit = int(pipe.scheduler.config["num_train_timesteps"])

        def make(
            _name: str, _network: torch.nn.Module, _family: Family, sampler: SamplerPosition
        ) -> tuple[PlannedPolicy, ForecastReuse]:
            return PlannedPolicy(self._plan, sampler, unit), ForecastReuse(1)

        with apply_policy(pipe, make) as handle:
            yield lambda: [sample.decisions for sample in handle.stats()]

    def _plan(
        self, times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]
    ) -> CacheSchedule:
        assert self.profile.drift is not None  # noqa: S101 - the demo's profiles have one
        drift = self.profile.drift.at(times)
        if not self.free:
            return make_schedule(drift, moves, self.nfe, cuts=cuts)
        return make_schedule(drift, moves, self.nfe, cuts=cuts, max_gap=LOW_MAX_GAP, free_end=True)


WAYS: dict[str, Way] = {
    "bounded": Way("a plan with the bounds of larger budgets", free=False),
    "free": Way("a plan with the freedom of low budgets, and repair", free=True),
    "unrepaired": Way("the same without repair", free=True, repair=False, points=(5, 6, 8)),
    "fewer": Way("as few steps of the sampler", plans=False),
    "fitted": Way("the steps of the free plan, with fitted sums", fitted=True),
    "of 16": Way("a plan of 16 steps", of=16, points=(5, 8)),
    "of 25": Way("a plan of 25 steps", of=25, points=(5, 8)),
}
"""All ways by name."""
