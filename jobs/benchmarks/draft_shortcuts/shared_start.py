"""Plans that begin with a draft's computed steps, so that finishing could go on from the draft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.baselines.base import Baseline, Decisions
from sencache import Family, SensitivityProfile
from sencache.extension import (
    CacheSchedule,
    ForecastReuse,
    PlannedPolicy,
    SamplerPosition,
    apply_policy,
)
from sencache.schedules.planner import make_schedule


@dataclass(frozen=True)
class SharedStart(Baseline):
    """The best plan among those whose first computed steps are those of a draft.

    Until the first step that only one of the two computes, draft and finished clip have the same
    latents. Outputs that the draft computed by then can be taken over exactly.

    Attributes:
        profile: Of the model.
        computed: Steps that the plan computes.
        draft: Steps that the draft computes.
        shared: How many of the draft's first steps the plan begins with.
    """

    profile: SensitivityProfile
    computed: int
    draft: int
    shared: int

    name = "shared start"
    source = "sencache.schedules.planner"

    @property
    def new(self) -> int:
        """Steps that are still to be computed once the draft is there."""
        return self.computed - self.shared

    def plan(
        self, times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...] = ()
    ) -> CacheSchedule:
        """The plan of a run.

        Raises:
            ValueError: There is none with this start.
        """
        drift = self.profile.drift
        if drift is None:
            raise ValueError("a plan needs a profile with drift")
        drift = drift.at(times)
        start = make_schedule(drift, moves, self.draft, cuts=cuts).computed[: self.shared]
        return make_schedule(drift, moves, self.computed, cuts=cuts, prefix=start)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the plan on a pipeline."""
        unit = int(pipe.scheduler.config["num_train_timesteps"])

        def make(
            _name: str, _network: torch.nn.Module, _family: Family, sampler: SamplerPosition
        ) -> tuple[PlannedPolicy, ForecastReuse]:
            return PlannedPolicy(self.plan, sampler, unit), ForecastReuse(1)

        with apply_policy(pipe, make) as handle:
            yield lambda: [sample.decisions for sample in handle.stats()]
