"""Plans that give each branch of guidance its own evaluations, out of one budget.

With the conditional output c, the unconditional output u and the scale w, guidance gives the
sampler g = u + w (c - u) = c + (w - 1) d, where d = c - u. A planned run evaluates both branches at
its computed steps. Here some of these steps leave u out, which pays for more computed steps:

- `off`: g = c there, as if guidance were off (guidance intervals, arXiv 2404.07724; late guidance
  off of FastVideo);
- `held`: u is evaluated at the first steps only, and d is forecast from its last values after that;
- `joint`: u is evaluated where the planner finds that it helps most, and d is forecast in between.

An error e of d at a computed step a moves the final latents by (w - 1) M_a e, where M_a adds up all
uses of that step's output: its own and those in forecasts. So the steps of u are a plan of the same
kind as the plan of the outputs: of the drift of d, over the computed steps, with the moves
(w - 1) M_a. The squares of both predicted errors add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sencache.extension import CacheSchedule
from sencache.schedules.budget import least_computed
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import make_schedule, schedule_of

Kind = Literal["planned", "off", "held", "joint"]
LEAST_GUIDED = 2
"""Fewest unconditional evaluations of a plan."""
MOST_TRIALS = 4
"""Most numbers of computed steps that are tried for a budget."""
KINDS: tuple[Kind, ...] = ("planned", "off", "held", "joint")


@dataclass(frozen=True)
class BranchPlan:
    """What both branches do in a run.

    Attributes:
        outputs: Plan of the guided outputs, over all steps.
        guidance: Plan of d, over the computed steps of `outputs`.
        off: Whether guidance is off where u is not evaluated, instead of forecast.
    """

    outputs: CacheSchedule
    guidance: CacheSchedule
    off: bool = False

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one clip, both branches counted."""
        return len(self.outputs.computed) + len(self.guidance.computed)

    @property
    def error(self) -> float:
        """Rms error of the final latents that the drifts predict; nothing is known with `off`."""
        return math.nan if self.off else math.hypot(self.outputs.error, self.guidance.error)


@dataclass(frozen=True)
class BranchPlanner:
    """Makes plans for one sampler of one model.

    Attributes:
        outputs: Drift of the guided output, at the times of the run's steps.
        guidance: Drift of d, likewise.
        moves: Of the sampler, one per step.
        scale: Guidance scale.
    """

    outputs: OutputDrift
    guidance: OutputDrift
    moves: tuple[float, ...]
    scale: float

    def plan(self, kind: Kind, evaluations: int, computed: int) -> BranchPlan:
        """The best plan of a kind.

        Args:
            kind: See the module.
            evaluations: Of the network, both branches counted.
            computed: Steps at which the conditional branch is evaluated; `evaluations` less this is
                the number of unconditional evaluations.

        Raises:
            ValueError: The numbers do not go together.
        """
        guided = evaluations - computed
        if not LEAST_GUIDED <= guided <= computed <= self.outputs.steps:
            raise ValueError(f"{evaluations} evaluations with {computed} computed steps: no plan")
        outputs = make_schedule(self.outputs, self.moves, computed)
        drift, moves = self._of_guidance(outputs)
        if kind == "joint" and guided < computed:
            return BranchPlan(outputs, make_schedule(drift, moves, guided))
        first = tuple(range(guided))
        return BranchPlan(outputs, schedule_of(drift, moves, first), off=kind == "off")

    def choices(self, kind: Kind, evaluations: int) -> list[int]:
        """Numbers of computed steps that are worth a trial."""
        if kind == "planned":
            return [evaluations // 2]
        counts = self._counts(kind, evaluations)
        spread = np.linspace(counts[0], counts[-1], MOST_TRIALS).round().astype(int)
        return sorted(set(spread.tolist()))

    def best_predicted(self, evaluations: int) -> BranchPlan:
        """The plan with the least predicted error, over all numbers of computed steps."""
        plans = [self.plan("planned", evaluations, evaluations // 2)]
        plans += [
            self.plan("joint", evaluations, count) for count in self._counts("joint", evaluations)
        ]
        return min(plans, key=lambda each: each.error)

    def _counts(self, kind: Kind, evaluations: int) -> list[int]:
        """Numbers of computed steps with fewer unconditional evaluations than that."""
        most = min(self.outputs.steps, evaluations - LEAST_GUIDED)
        return [
            count
            for count in range(evaluations // 2 + 1, most + 1)
            if kind != "joint" or evaluations - count >= least_computed(count)
        ]

    def _of_guidance(self, outputs: CacheSchedule) -> tuple[OutputDrift, tuple[float, ...]]:
        """Drift of d over the computed steps, and how far it moves the final latents there."""
        steps = list(outputs.computed)
        place = {step: number for number, step in enumerate(steps)}
        uses = np.zeros(len(steps))
        for step, move in enumerate(self.moves):
            forecast = outputs.forecasts.get(step)
            if forecast is None:
                uses[place[step]] += move
                continue
            for anchor, weight in zip(forecast.anchors, forecast.weights, strict=True):
                uses[place[anchor]] += move * weight
        matrix = self.guidance.matrix()[np.ix_(steps, steps)]
        drift = OutputDrift.of_outputs(
            [self.guidance.tau[step] for step in steps],
            matrix,
            [self.outputs.gain[step] for step in steps],
        )
        return drift, tuple((self.scale - 1) * use for use in uses.tolist())


def mean_drift(taus: Sequence[float], distances: Sequence[np.ndarray]) -> OutputDrift:
    """The drift of several batches of equal size."""
    return OutputDrift.of_outputs(taus, np.mean(distances, axis=0))
