"""Decisions by a cache schedule: known on the host before the run, the same for every branch.

Computes no score and does not wait for the device, except where neither the pipeline nor its
scheduler counts steps, and once per run at a gate (:mod:`sencache.policies.gated`).
"""

from __future__ import annotations

import functools
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
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.base import KeptOutput, RowGroup
from sencache.schedules.levels import plan_for
from sencache.schedules.planner import CacheSchedule

Planner = Callable[[tuple[float, ...], tuple[float, ...], tuple[int, ...]], CacheSchedule]
"""Makes a cache schedule from the times of a run's steps, the sampler's moves, and the steps at
which another network takes over."""


def profile_planner(config: SenCacheConfig, profile: SensitivityProfile) -> Planner:
    """A planner by the settings, from the profile of the model.

    The planner compares each new number of steps with the profile's, which warns if they are far
    apart.
    """

    @functools.cache
    def compare(steps: int) -> None:
        profile.check(num_inference_steps=steps, once=True)

    def plan(
        times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]
    ) -> CacheSchedule:
        schedule = plan_for(config, profile, times, moves, cuts)
        if len(schedule.computed) < schedule.steps:
            compare(schedule.steps)
        return schedule

    return plan


class PlannedPolicy:
    """Decides calls by the cache schedule of their run."""

    def __init__(
        self,
        planner: Planner,
        sampler: SamplerPosition,
        num_train_timesteps: int,
        gate: GateMaker | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        """Keep what schedules are made from.

        Args:
            planner: Makes the schedule of a run.
            sampler: Of the pipeline.
            num_train_timesteps: What timesteps are divided by to get tau.
            gate: Makes the gate of a run; None: all rows follow one schedule.
            agreement: Of the ranks that run the network together; only a gate needs it.
        """
        self._planner, self._sampler = planner, sampler
        self._gate, self._agreement = gate, agreement
        self.num_train_timesteps = num_train_timesteps

    def prepare(self, call: Call, position: CallPosition) -> None:
        """Nothing depends on the rows."""

    def decide(
        self, call: Call, position: CallPosition, trajectory: Trajectory
    ) -> Decision | Restart:
        """What the schedule says about the call's step.

        Raises:
            ValueError: The calls do not name their guidance branches, or the run has no schedule.
        """
        first = position.context not in trajectory.kept
        known = position.step is not None or position.run is not None
        if not first and not known and self._goes_back(call, trajectory):
            return Restart()
        if trajectory.schedule is None:
            self._begin(call, trajectory)
        schedule = trajectory.schedule
        assert schedule is not None  # noqa: S101 - made just now
        step = trajectory.step
        if step >= schedule.steps:
            raise ValueError(
                f"the run was planned for {schedule.steps} steps but has come to step {step + 1}"
            )
        everyone = ScheduledRows(tuple(range(trajectory.samples)), schedule)
        scheduled = trajectory.scheduled or (everyone,)
        groups = tuple(
            self._group(index, rows, position, trajectory) for index, rows in enumerate(scheduled)
        )
        computed = [False] * call.rows
        for group in groups:
            for row in group.rows:
                computed[row] = group.computed
        scores: dict[Branch, torch.Tensor] = {}
        planned_here = any(step in rows.schedule.computed for rows in scheduled)
        if "cond" in position.branches and not first and planned_here:
            scores["cond"] = _expected(scheduled, step).to(call.latents.device, non_blocking=True)
        return Decision(computed, scores=scores, groups=groups)

    def remember(
        self,
        call: Call,
        position: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Separate easy from hard rows at the gate; keep tau where only it shows a new run."""
        gate = trajectory.gate
        if gate is not None and trajectory.step == gate.step and "cond" in position.branches:
            # None: guidance began late, so there was nothing to compare with. Then all are easy.
            if change is not None:
                errors = change[trajectory.rows_of("cond", position)]
                trajectory.scheduled = gate.split(self._hard(errors, gate.limit))
            trajectory.gate = None
        if position.step is None and position.run is None:
            trajectory.seen_tau = call.tau(self.num_train_timesteps)

    def _hard(self, errors: torch.Tensor, limit: float) -> list[bool]:
        """Which samples are hard, on the host: the gate's one transfer. NaN is hard."""
        facts = torch.stack([errors.float(), (~(errors <= limit)).float()])[None]
        facts = facts.cpu()
        if self._agreement is not None:
            facts = self._agreement.settle(facts, 1)
        return [bool(hard) for hard in facts[0, 1].tolist()]

    def _group(
        self, index: int, rows: ScheduledRows, position: CallPosition, trajectory: Trajectory
    ) -> RowGroup:
        """What to do with rows of one schedule, one block of them per branch of the call."""
        step, schedule = trajectory.step, rows.schedule
        kept = trajectory.kept.get(position.context)
        if kept is not None and kept.groups:
            kept = kept.groups[index]
        # Guidance may begin in the middle of a run, or return after it was off.
        computes = step in schedule.computed or kept is None or _is_stale(kept, step, schedule)
        # A step that is computed outside the schedule has other anchors, so no repair fits it.
        as_planned = kept is not None and computes == (step in schedule.computed)
        blocks = range(len(position.branches))
        return RowGroup(
            tuple(block * trajectory.samples + row for block in blocks for row in rows.samples),
            computes,
            schedule.forecasts.get(step) if as_planned else None,
            schedule.checks[step][0] if step in schedule.checks else None,
        )

    def _begin(self, call: Call, trajectory: Trajectory) -> None:
        """Make the schedule of a run from the step that its trajectory begins at."""
        times = self._sampler.times(call, self.num_train_timesteps)
        moves = self._sampler.moves()
        cuts = self._sampler.cuts(times)
        start = trajectory.step
        late = 0
        if start and start not in cuts:  # image or video to video: the run skips the first steps
            times, moves, cuts, late = times[start:], moves[start:], (), start
        schedule = self._planner(times, moves, cuts)
        gate = self._gate(schedule, times, moves) if self._gate is not None else None
        trajectory.schedule = schedule.after(late)
        trajectory.gate = None if gate is None else gate.after(late)

    def _goes_back(self, call: Call, trajectory: Trajectory) -> bool:
        """Whether time rose, so that the call belongs to another run; waits for the device."""
        seen = trajectory.seen_tau
        tau = call.tau(self.num_train_timesteps)
        return seen is not None and bool((tau > seen).any().item())


def _is_stale(kept: KeptOutput, step: int, schedule: CacheSchedule) -> bool:
    """Whether the kept output is older than the schedule's last computed step before `step`."""
    before = [computed for computed in schedule.computed if computed < step]
    return bool(before) and kept.step < before[-1]


def _expected(scheduled: Sequence[ScheduledRows], step: int) -> torch.Tensor:
    """The forecast error that the schedules expect at a step, shape [samples]; NaN without one."""
    expected = [math.nan] * sum(len(rows.samples) for rows in scheduled)
    for rows in scheduled:
        for sample in rows.samples:
            expected[sample] = rows.schedule.checks.get(step, (None, math.nan))[1]
    return torch.tensor(expected)
