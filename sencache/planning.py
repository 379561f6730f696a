"""Decisions by a plan: known on the host before the run, the same for every row and branch.

No score is taken and nothing waits for the device, except where neither the pipeline nor its
scheduler counts steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch

from sencache.calls import Call
from sencache.config import SenCacheConfig
from sencache.decisions import Decision, Restart
from sencache.drift import OutputDrift
from sencache.measurement import Branch
from sencache.plan import Plan, computed_steps, least_computed, make_plan
from sencache.schedule import Schedule
from sencache.trajectory import Moment, Trajectory

_planned = functools.lru_cache(maxsize=64)(make_plan)  # seconds for a long run; plans are values


Planner = Callable[[tuple[float, ...], tuple[float, ...], tuple[int, ...]], Plan]
"""Makes a plan from the times of a run's steps, the sampler's moves, and the steps at which
another network takes over."""


def drift_planner(config: SenCacheConfig, drift: OutputDrift) -> Planner:
    """Plans as the settings say, from the drift of the model."""

    def plan(times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]) -> Plan:
        steps = len(times)
        if steps < 3:  # nothing to plan
            return Plan(steps, tuple(range(steps)), {}, 0.0)
        return _planned(
            drift.at(times),
            moves,
            max(computed_steps(config.budget, steps), least_computed(steps, cuts)),
            order=config.order,
            repair=config.repair,
            cuts=cuts,
        )

    return plan


class PlanJudge:
    """Decides calls by the plan of their run."""

    def __init__(self, planner: Planner, schedule: Schedule, num_train_timesteps: int) -> None:
        """Plan when a run's schedule is known.

        Args:
            planner: Makes the plan of a run.
            schedule: Of the pipeline's scheduler.
            num_train_timesteps: What timesteps are divided by to get tau.
        """
        self._plan, self._schedule = planner, schedule
        self.num_train_timesteps = num_train_timesteps

    def prepare(self, call: Call, moment: Moment) -> None:
        """Nothing depends on the rows."""

    def decide(self, call: Call, moment: Moment, trajectory: Trajectory) -> Decision | Restart:
        """What the plan says of the call's step.

        Raises:
            ValueError: Guidance branches are not told apart, or there is no plan for the run.
        """
        first = moment.context not in trajectory.held
        tells = moment.step is not None or moment.run is not None
        if not first and not tells and self._goes_back(call, trajectory):
            return Restart()
        if trajectory.plan is None:
            self._begin(call, moment, trajectory)
        plan = trajectory.plan
        assert plan is not None  # noqa: S101 - made just now
        step = trajectory.step
        if step >= plan.steps:
            raise ValueError(
                f"the run was planned for {plan.steps} steps but has come to step {step + 1}"
            )
        # Guidance may come on in the middle of a run, or come back after it was off.
        computes = step in plan.computed or first or self._is_stale(moment, trajectory, plan)
        # What was computed by chance cannot be mended: its anchors are not those of the plan.
        mix = plan.mixes.get(step) if not first and computes == (step in plan.computed) else None
        check, expected = plan.checks.get(step, (None, math.nan))
        scores: dict[Branch, torch.Tensor] = {}
        if "cond" in moment.branches and not first and step in plan.computed:
            scores["cond"] = torch.full((trajectory.samples,), expected, device=call.latents.device)
        return Decision([computes] * call.rows, scores=scores, mix=mix, check=check)

    def remember(
        self,
        call: Call,
        moment: Moment,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Keep the time, where nothing else tells this run from the next."""
        if moment.step is None and moment.run is None:
            trajectory.seen_tau = call.tau(self.num_train_timesteps)

    def _begin(self, call: Call, moment: Moment, trajectory: Trajectory) -> None:
        """Plan the run that a trajectory begins, from the step that it begins at."""
        times = self._schedule.times(call, self.num_train_timesteps)
        moves = self._schedule.moves()
        cuts = self._schedule.cuts(times)
        start = trajectory.step
        if start and start not in cuts:  # image or video to video: the schedule's end is the run
            trajectory.plan = self._plan(times[start:], moves[start:], ()).after(start)
        else:
            trajectory.plan = self._plan(times, moves, cuts)

    @staticmethod
    def _is_stale(moment: Moment, trajectory: Trajectory, plan: Plan) -> bool:
        """Whether what a context holds is older than the plan's last computed step."""
        held = trajectory.held[moment.context]
        before = [step for step in plan.computed if step < trajectory.step]
        return bool(before) and held.step < before[-1]

    def _goes_back(self, call: Call, trajectory: Trajectory) -> bool:
        """Whether time rose, so that the call is of another run; waits for the device."""
        seen = trajectory.seen_tau
        tau = call.tau(self.num_train_timesteps)
        return seen is not None and bool((tau > seen).any().item())
