"""The ways to spend very few evaluations that `low-end` compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.benchmarks.baselines.own import Planned
from jobs.benchmarks.quality.denoising import DenoisingRun
from sencache import SenCacheConfig, SensitivityProfile


@dataclass(frozen=True)
class Way:
    """One way to spend evaluations.

    Attributes:
        text: What it is, for the table.
        of: Steps of the sampler; None: those of the run. Every one of them, if `plans` is false.
        plans: Whether a plan divides the evaluations among the steps.
        fitted: Whether the plan's sums are fitted.
        settings: Of the plan, beside its budget.
        points: Numbers of evaluations at which it is measured.
    """

    text: str
    of: int | None = None
    plans: bool = True
    fitted: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    points: tuple[int, ...] = (5, 8)

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
        of = self.of or steps
        config = SenCacheConfig(policy="planned", **dict(self.settings))
        return DenoisingRun(sampler, of, Planned(profile, config).budgeted(nfe, of))


POINTS = (5, 6, 8, 10, 13, 17)
"""Numbers of evaluations."""

WAYS: dict[str, Way] = {
    "planned": Way("the plan of the profile's drift", points=POINTS),
    "fewer": Way("as few steps of the sampler", plans=False, points=POINTS),
    "fitted": Way("the plan's steps, with fitted sums", fitted=True, points=(5, 6, 8, 10)),
    "of 10": Way("a plan of 10 steps", of=10),
    "of 16": Way("a plan of 16 steps", of=16),
    "of 25": Way("a plan of 25 steps", of=25),
    "of 35": Way("a plan of 35 steps", of=35),
    "quadratic": Way("a plan with forecasts of order 2", settings=(("order", 2),)),
    "held": Way("a plan that holds outputs, order 0", settings=(("order", 0),)),
    "unrepaired": Way("a plan without repair", settings=(("repair", False),)),
}
"""All ways by name."""
