"""Decisions by a plan: known on the host before the run, the same for every branch.

No score is taken and nothing waits for the device, except where neither the pipeline nor its
scheduler counts steps, and once a run where a gate tells the rows apart
(:mod:`sencache.policies.gated`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from sencache.config import SenCacheConfig
from sencache.hook.agreement import Agreement
from sencache.hook.call import Call
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import CallPosition, Trajectory
from sencache.policies.base import Decision, Restart
from sencache.policies.gated import GateMaker, ScheduledRows
from sencache.profiles.metadata import Branch
from sencache.reuse.base import RowGroup
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import (
    CacheSchedule,
    computed_steps,
    least_computed,
    planned,
)

Planner = Callable[[tuple[float, ...], tuple[float, ...], tuple[int, ...]], CacheSchedule]
"""Makes a plan from the times of a run's steps, the sampler's moves, and the steps at which
another network takes over."""


def drift_planner(config: SenCacheConfig, drift: OutputDrift) -> Planner:
    """Plans as the settings say, from the drift of the model."""

    def plan(
        times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]
    ) -> CacheSchedule:
        steps = len(times)
        if steps < 3:  # nothing to plan
            return CacheSchedule(steps, tuple(range(steps)), {}, 0.0)
        return planned(
            drift.at(times),
            moves,
            max(computed_steps(config.budget, steps), least_computed(steps, cuts)),
            order=config.order,
            repair=config.repair,
            cuts=cuts,
        )

    return plan


class PlannedPolicy:
    """Decides calls by the plan of their run."""

    def __init__(
        self,
        planner: Planner,
        schedule: SamplerPosition,
        num_train_timesteps: int,
        gate: GateMaker | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        """Plan when a run's schedule is known.

        Args:
            planner: Makes the plan of a run.
            schedule: Of the pipeline's scheduler.
            num_train_timesteps: What timesteps are divided by to get tau.
            gate: Makes the gate of a run; None: all rows follow its plan.
            agreement: Of the ranks that run the network together; only a gate needs it.
        """
        self._plan, self._schedule = planner, schedule
        self._gate, self._agreement = gate, agreement
        self.num_train_timesteps = num_train_timesteps

    def prepare(self, call: Call, moment: CallPosition) -> None:
        """Nothing depends on the rows."""

    def decide(
        self, call: Call, moment: CallPosition, trajectory: Trajectory
    ) -> Decision | Restart:
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
        shares = trajectory.shares or (ScheduledRows(tuple(range(trajectory.samples)), plan),)
        parts = tuple(
            self._part(index, share, moment, trajectory) for index, share in enumerate(shares)
        )
        computed = [False] * call.rows
        for part in parts:
            for row in part.rows:
                computed[row] = part.computed
        scores: dict[Branch, torch.Tensor] = {}
        planned_here = any(step in share.plan.computed for share in shares)
        if "cond" in moment.branches and not first and planned_here:
            scores["cond"] = _expected(shares, step).to(call.latents.device, non_blocking=True)
        return Decision(computed, scores=scores, parts=parts)

    def remember(
        self,
        call: Call,
        moment: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Tell the rows apart at the gate; keep the time where nothing else tells runs apart."""
        gate = trajectory.gate
        if gate is not None and trajectory.step == gate.step and "cond" in moment.branches:
            # None: guidance came on late, so there was nothing to compare with. Then all are easy.
            if change is not None:
                errors = change[trajectory.part("cond", moment)]
                trajectory.shares = gate.shares(self._hard(errors, gate.limit))
            trajectory.gate = None
        if moment.step is None and moment.run is None:
            trajectory.seen_tau = call.tau(self.num_train_timesteps)

    def _hard(self, errors: torch.Tensor, limit: float) -> list[bool]:
        """Which samples are hard, on the host: the gate's one transfer. NaN is hard."""
        facts = torch.stack([errors.float(), (~(errors <= limit)).float()])[None]
        facts = facts.cpu()
        if self._agreement is not None:
            facts = self._agreement.settle(facts, 1)
        return [bool(hard) for hard in facts[0, 1].tolist()]

    def _part(
        self, index: int, share: ScheduledRows, moment: CallPosition, trajectory: Trajectory
    ) -> RowGroup:
        """What is done with the rows of a share, one block of them per branch of the call."""
        step, plan = trajectory.step, share.plan
        held = trajectory.held.get(moment.context)
        if held is not None and held.parts:
            held = held.parts[index]
        # Guidance may come on in the middle of a run, or come back after it was off.
        computes = step in plan.computed or held is None or _is_stale(held.step, step, plan)
        # What was computed by chance cannot be mended: its anchors are not those of the plan.
        as_planned = held is not None and computes == (step in plan.computed)
        blocks = range(len(moment.branches))
        return RowGroup(
            tuple(block * trajectory.samples + row for block in blocks for row in share.samples),
            computes,
            plan.mixes.get(step) if as_planned else None,
            plan.checks[step][0] if step in plan.checks else None,
        )

    def _begin(self, call: Call, moment: CallPosition, trajectory: Trajectory) -> None:
        """Plan the run that a trajectory begins, from the step that it begins at."""
        times = self._schedule.times(call, self.num_train_timesteps)
        moves = self._schedule.moves()
        cuts = self._schedule.cuts(times)
        start = trajectory.step
        if start and start not in cuts:  # image or video to video: the schedule's end is the run
            times, moves, cuts = times[start:], moves[start:], ()
            late = start
        else:
            late = 0
        plan = self._plan(times, moves, cuts)
        gate = self._gate(plan, times, moves) if self._gate is not None else None
        trajectory.plan = plan.after(late)
        trajectory.gate = None if gate is None else gate.after(late)

    def _goes_back(self, call: Call, trajectory: Trajectory) -> bool:
        """Whether time rose, so that the call is of another run; waits for the device."""
        seen = trajectory.seen_tau
        tau = call.tau(self.num_train_timesteps)
        return seen is not None and bool((tau > seen).any().item())


def _is_stale(held: int, step: int, plan: CacheSchedule) -> bool:
    """Whether what a context holds, of step `held`, is older than the last computed step."""
    before = [computed for computed in plan.computed if computed < step]
    return bool(before) and held < before[-1]


def _expected(shares: Sequence[ScheduledRows], step: int) -> torch.Tensor:
    """The forecast error that the plans expect at a step, shape [samples]; NaN where none do."""
    expected = [math.nan] * sum(len(share.samples) for share in shares)
    for share in shares:
        for sample in share.samples:
            expected[sample] = share.plan.checks.get(step, (None, math.nan))[1]
    return torch.tensor(expected)
