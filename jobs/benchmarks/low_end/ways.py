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
from sencache import Family, SenCacheConfig, SensitivityProfile
from sencache.extension import (
    CacheSchedule,
    ForecastReuse,
    PlannedPolicy,
    SamplerPosition,
    apply_policy,
)
from sencache.schedules.planner import make_schedule


@dataclass(frozen=True)
class Way:
    """One way to spend evaluations.

    Attributes:
        text: What it is, for the table.
        of: Steps of the sampler; None: those of the run. Every one of them, if `plans` is false.
        plans: Whether a plan divides the evaluations among the steps.
        fitted: Whether the plan's sums are fitted.
        settings: Of the plan, beside its budget.
        bounded: Whether the plan has the bounds of larger budgets.
        points: Numbers of evaluations at which it is measured.
    """

    text: str
    of: int | None = None
    plans: bool = True
    fitted: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    bounded: bool = False
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
        if self.bounded:
            return DenoisingRun(sampler, steps, BoundedPlan(profile, nfe))
        of = self.of or steps
        config = SenCacheConfig(policy="planned", **dict(self.settings))
        return DenoisingRun(sampler, of, Planned(profile, config).budgeted(nfe, of))


@dataclass(frozen=True)
class BoundedPlan(Baseline):
    """A plan with the bounds of larger budgets.

    It computes the last step, and at most 12 forecasts follow each other.

    Attributes:
        profile: Drift of the model's output.
        nfe: Evaluations.
    """

    profile: SensitivityProfile
    nfe: int

    name = "bounded"
    source = "sencache.schedules.planner, without the freedom of low budgets"

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
        return make_schedule(self.profile.drift.at(times), moves, self.nfe, cuts=cuts)


WAYS: dict[str, Way] = {
    "planned": Way("the plan of the profile's drift"),
    "bounded": Way("the same with the bounds of larger budgets", bounded=True),
    "fewer": Way("as few steps of the sampler", plans=False),
    "fitted": Way("the plan's steps, with fitted sums", fitted=True),
    "of 16": Way("a plan of 16 steps", of=16, points=(5, 8)),
    "of 25": Way("a plan of 25 steps", of=25, points=(5, 8)),
    "held": Way("a plan that holds outputs, order 0", settings=(("order", 0),), points=(5, 8)),
    "unrepaired": Way("a plan without repair", settings=(("repair", False),), points=(5, 8)),
}
"""All ways by name."""
