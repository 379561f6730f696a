"""From a call to its decision: which rows the network computes, and what is remembered of it."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from sencache.config import SenCacheConfig
from sencache.hook.agreement import Agreement
from sencache.hook.call import Call
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import BranchState, CallPosition, Trajectory
from sencache.policies.base import (
    NO_END,
    NOT_FINITE,
    Decision,
    Restart,
    unnamed_branches,
)
from sencache.policies.branches import AnyProfile, BranchPolicies
from sencache.policies.rule import Verdict, row_rms
from sencache.profiles.metadata import Branch

COMPUTE = 1
"""Place of the verdict among the facts of a decision."""

_logger = logging.getLogger(__name__)


class SensitivityPolicy:
    """Decides calls by the policy of each deciding branch."""

    def __init__(
        self,
        config: SenCacheConfig,
        profile: AnyProfile | None,
        schedule: SamplerPosition,
        agreement: Agreement | None = None,
    ) -> None:
        self._config, self._schedule, self._agreement = config, schedule, agreement
        self._policies = BranchPolicies(config, profile)
        self.num_train_timesteps = self._policies.num_train_timesteps
        self._told: set[str] = set()

    def prepare(self, call: Call, moment: CallPosition) -> None:
        """Get ready for the rows of a call, and warn once if the profile was measured otherwise."""
        self._policies.prepare(call, moment)

    def decide(
        self, call: Call, moment: CallPosition, trajectory: Trajectory
    ) -> Decision | Restart:
        """Verdict per row of the call, on the host; at most one transfer from the device a step.

        Branches that decide for themselves are all judged at the step's first call, because all
        of them see the same latents.

        Where no step is published, the last one, which has to be computed, is the scheduler's
        last. Without a scheduler nothing is reused in a run that does not start at the top of the
        schedule (image or video to video with strength < 1, the second network of Wan 2.2).

        Returns:
            The decision, or that the call shows to begin another trajectory.

        Raises:
            ValueError: Guidance branches are not told apart, or the number of steps is unknown
                or wrong.
        """
        everything = [True] * call.rows
        if self._only_counts(moment):
            return Decision(everything)
        # Asked for on the first call too, so that an unknown number of steps is told at once.
        threshold = self._policies["cond"].threshold(trajectory.step, moment.num_steps)
        if moment.context not in trajectory.held:
            return Decision(everything)
        mine = [branch for branch in moment.branches if branch in self._policies]
        if not mine:
            return Decision(_follow(moment, trajectory))

        if not all(branch in trajectory.decided for branch in mine):
            judged = [branch for branch in self._policies if branch in trajectory.tracks]
            verdicts, facts = self._judge(call, moment, trajectory, judged, threshold)
            if moment.step is not None and threshold <= 0.0:
                return Decision.by(everything, verdicts)  # known without asking the device
            restart = self._settle(facts, verdicts, moment, trajectory)
            if restart is not None:
                return restart
        verdicts = {branch: trajectory.decided[branch][0] for branch in mine}
        computed = [ran for branch in mine for ran in trajectory.decided[branch][1]]
        if len(mine) < len(moment.branches):  # cond speaks for all branches of the call
            computed = computed * len(moment.branches)
        return Decision.by(computed, verdicts)

    def remember(
        self,
        call: Call,
        moment: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Update the deciding branches after a call that went well.

        Args:
            call: The call.
            moment: Where it is.
            trajectory: What is kept.
            decision: What was done.
            change: rms(f_new - f_r) of each row of the call; None where it was not measured.
        """
        if self._only_counts(moment) or not any(b in self._policies for b in moment.branches):
            return
        tau = call.tau(self.num_train_timesteps)
        for branch in moment.branches:
            if branch not in self._policies:
                continue
            part, policy = trajectory.part(branch, moment), self._policies[branch]
            latents, verdict = call.latents[part], decision.verdicts.get(branch)
            if verdict is None:
                track = BranchState(latents.clone(), policy.begin(tau[part]), tau[part])
                trajectory.tracks[branch] = track
            else:
                track = trajectory.tracks[branch]
                if verdict.all_compute:
                    track.latents = latents.clone()
                else:
                    keep = verdict.compute.view(-1, *[1] * (latents.ndim - 1))
                    track.latents = torch.where(keep, latents, track.latents)
                moved = torch.zeros_like(tau[part]) if change is None else change[part]
                track.memory = policy.advance(track.memory, tau[part], verdict, moved)
            if moment.context is None:
                track.seen = latents.clone()  # the caller may write into its own

    def _only_counts(self, moment: CallPosition) -> bool:
        """Whether no score is needed: nothing is ever reused, and the branches are told apart."""
        return not self._config.may_reuse and moment.context is not None

    def _judge(
        self,
        call: Call,
        moment: CallPosition,
        trajectory: Trajectory,
        judged: Sequence[Branch],
        threshold: float,
    ) -> tuple[dict[Branch, Verdict], list[torch.Tensor]]:
        """Verdict of each branch, and for each the facts per row that the host has to know.

        The facts, shape [6, rows]: S; the row computes; time went on as in one run; the branches
        see the same latents; the call is another than the last; its end is known.
        """
        tau = call.tau(self.num_train_timesteps)
        verdicts: dict[Branch, Verdict] = {}
        facts: list[torch.Tensor] = []
        for branch in judged:
            part, track = trajectory.part(branch, moment), trajectory.tracks[branch]
            now, memory, latents = tau[part], track.memory, call.latents[part]
            distance = row_rms(latents.float() - track.latents.float())
            # Equal times are no sign of a new run, because samplers round them, except at the
            # start: a run that raised at its first step is followed by that very time.
            same = (now <= memory.seen_tau) & (now < track.start_tau)
            limit, end_known = self._limit(call, moment, track, now, threshold)
            verdict = self._policies[branch].judge(memory, now, distance, limit)
            new = torch.ones_like(same)
            if track.seen is not None:
                new = (now != memory.seen_tau) | (latents != track.seen).flatten(1).any(1)
            verdicts[branch] = verdict
            paired = self._still_paired(call, moment, trajectory)
            facts.append(
                torch.stack([verdict.score, verdict.compute, same, paired, new, end_known])
            )
        return verdicts, facts

    def _limit(
        self,
        call: Call,
        moment: CallPosition,
        track: BranchState,
        tau: torch.Tensor,
        threshold: float,
    ) -> tuple[float | torch.Tensor, torch.Tensor]:
        """Threshold of a branch's rows, and whether the end of their run is known."""
        if moment.step is not None:
            return threshold, torch.ones_like(tau, dtype=torch.bool)
        whole = self._schedule.starts_at_top(track.start_tau, call, self.num_train_timesteps)
        if not self._schedule.known or moment.num_steps is None:
            return torch.where(whole, threshold, 0.0), whole
        position = self._schedule.position(tau, call, self.num_train_timesteps)
        within = self._policies["cond"].thresholds(position, moment.num_steps)
        return torch.where(whole, threshold, within), torch.ones_like(whole)

    def _still_paired(
        self, call: Call, moment: CallPosition, trajectory: Trajectory
    ) -> torch.Tensor:
        """Whether the branches that a call seemed to hold see the same latents, per sample."""
        if len(moment.branches) == 1 or moment.sure:
            return torch.ones(trajectory.samples, dtype=torch.bool, device=call.latents.device)
        first, *others = (
            call.latents[trajectory.part(branch, moment)] for branch in moment.branches
        )
        # NaN is no sign of another clip: rows that went bad went bad together.
        differs = torch.stack([(first != other) & (first == first) for other in others])
        return ~differs.any(0).flatten(1).any(1)

    def _settle(
        self,
        facts: list[torch.Tensor],
        verdicts: dict[Branch, Verdict],
        moment: CallPosition,
        trajectory: Trajectory,
    ) -> Restart | None:
        """Bring the verdicts to the host and note them, unless this is another trajectory.

        Raises:
            ValueError: See :meth:`decide`.
        """
        seen = torch.stack(facts)
        if self._agreement is not None:
            seen = self._agreement.settle(seen.float().cpu(), COMPUTE)
        on_host = seen.tolist()  # the one synchronisation
        for branch, rows in zip(verdicts, on_host, strict=True):
            score, compute, same, paired, new, end_known = rows
            if moment.step is None and not all(same):
                return Restart()  # nobody tells the step, and time went back
            if not all(paired):  # what seemed two branches are clips that began alike
                return Restart(missed=trajectory.step)
            if not any(new):
                raise ValueError(unnamed_branches())
            if self._config.may_reuse and not all(end_known) and self._due("end"):
                warnings.warn(NO_END, UserWarning, stacklevel=2)
            if self._config.may_reuse and not all(map(math.isfinite, score)) and self._due("nan"):
                _logger.warning(NOT_FINITE, trajectory.step + 1)
            computed = [bool(ran) for ran in compute]
            filled = fill_up(computed, score, self._config.row_buckets)
            if filled or self._agreement is not None:
                computed = filled or computed
                mask = torch.tensor(computed).to(trajectory.device, non_blocking=True)
                verdicts[branch] = replace(verdicts[branch], compute=mask)
            trajectory.decided[branch] = (verdicts[branch], computed)
        num_steps = moment.num_steps
        if self._config.may_reuse and num_steps is not None and trajectory.step >= num_steps:
            raise ValueError(
                f"SenCacheConfig.num_inference_steps is {num_steps} but the pipeline has "
                f"come to step {trajectory.step + 1}; set it to what the pipeline is called with"
            )
        return None

    def _due(self, warning: str) -> bool:
        """Whether a warning was not given yet."""
        due = warning not in self._told
        self._told.add(warning)
        return due


def _follow(moment: CallPosition, trajectory: Trajectory) -> list[bool]:
    """Verdict of a branch that follows cond, which was called earlier in this step.

    A row whose output is of an earlier step than cond's last computed one computes all the same:
    guidance was off for a while, and the two outputs would not belong together.
    """
    verdict = trajectory.computed or [True] * trajectory.samples
    steps = trajectory.computed_at[moment.context]
    return [
        ran or steps[row] < trajectory.cond_computed_at[row % trajectory.samples]
        for row, ran in enumerate(verdict * len(moment.branches))
    ]


def fill_up(
    computed: Sequence[bool], score: Sequence[float], buckets: Sequence[int]
) -> list[bool] | None:
    """Verdicts with the rows of highest score added, up to the next size of batch.

    Args:
        computed: Verdict per row.
        score: S per row.
        buckets: Sizes, rising.

    Returns:
        The verdicts; None where nothing is added, as where no row computes.
    """
    wanted = sum(computed)
    size = next((bucket for bucket in buckets if bucket >= wanted), wanted)
    size = min(size, len(computed))
    if not wanted or size == wanted:
        return None
    idle = sorted((row for row, ran in enumerate(computed) if not ran), key=lambda r: -score[r])
    added = set(idle[: size - wanted])
    return [ran or row in added for row, ran in enumerate(computed)]
