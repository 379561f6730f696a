"""The paper's policy (and its authors' variant): from a network call to a decision about its rows.

The rule itself, on tensors, is `sencache.policies.sensitivity_rule`.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from sencache.config import SenCacheConfig
from sencache.hook.agreement import Agreement
from sencache.hook.call import Call, row_rms
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import BranchState, CallPosition, Trajectory
from sencache.policies.base import (
    NO_END,
    NOT_FINITE,
    Decision,
    Restart,
    unnamed_branches,
)
from sencache.policies.branch_rules import AnyProfile, BranchRules
from sencache.policies.sensitivity_rule import Verdict
from sencache.profiles.metadata import Branch

COMPUTE = 1
"""Place of the verdict among the facts of a decision."""

_logger = logging.getLogger(__name__)


class SensitivityPolicy:
    """Decides calls by the rule of each deciding branch."""

    def __init__(
        self,
        config: SenCacheConfig,
        profile: AnyProfile | None,
        sampler: SamplerPosition,
        agreement: Agreement | None = None,
    ) -> None:
        self._config, self._sampler, self._agreement = config, sampler, agreement
        self._rules = BranchRules(config, profile)
        self.num_train_timesteps = self._rules.num_train_timesteps
        self._warned: set[str] = set()

    def prepare(self, call: Call, position: CallPosition) -> None:
        """Get ready for the rows of a call, and warn once if the profile was measured otherwise."""
        self._rules.prepare(call, position)

    def decide(
        self, call: Call, position: CallPosition, trajectory: Trajectory
    ) -> Decision | Restart:
        """Decide per row, on the host; at most one transfer from the device per step.

        All deciding branches decide at the step's first call, because all see the same latents.

        Where no step is published, the last one, which has to be computed, is the scheduler's
        last. Without a scheduler nothing is reused in a run that does not start at the top of the
        schedule (image or video to video with strength < 1, the second network of Wan 2.2).

        Returns:
            The decision, or that the call begins another trajectory.

        Raises:
            ValueError: The calls do not name their guidance branches, or the number of steps is
                unknown or wrong.
        """
        everything = [True] * call.rows
        if self._only_counts(position):
            return Decision(everything)
        # On the first call too, so that an unknown number of steps is an error at once.
        threshold = self._rules["cond"].threshold(trajectory.step, position.num_steps)
        if position.context not in trajectory.kept:
            return Decision(everything)
        mine = [branch for branch in position.branches if branch in self._rules]
        if not mine:
            return Decision(_follow(position, trajectory))

        if not all(branch in trajectory.decided for branch in mine):
            deciding = [
                branch
                for branch in self._rules
                if branch in trajectory.branch_states
                and trajectory.branch_states[branch].begun < trajectory.step
            ]
            verdicts, facts = self._verdicts(call, position, trajectory, deciding, threshold)
            if position.step is not None and threshold <= 0.0:
                return Decision.by(everything, verdicts)  # known without a transfer
            restart = self._settle(facts, verdicts, position, trajectory)
            if restart is not None:
                return restart
        verdicts = {branch: trajectory.decided[branch][0] for branch in mine}
        computed = [ran for branch in mine for ran in trajectory.decided[branch][1]]
        if len(mine) < len(position.branches):  # cond speaks for all branches of the call
            computed = computed * len(position.branches)
        return Decision.by(computed, verdicts)

    def remember(
        self,
        call: Call,
        position: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Update the deciding branches."""
        if self._only_counts(position) or not any(b in self._rules for b in position.branches):
            return
        tau = call.tau(self.num_train_timesteps)
        for branch in position.branches:
            if branch not in self._rules:
                continue
            rows, rule = trajectory.rows_of(branch, position), self._rules[branch]
            latents, verdict = call.latents[rows], decision.verdicts.get(branch)
            if verdict is None:
                before = trajectory.branch_states.get(branch)
                start = tau[rows] if before is None else before.start_tau
                memory = rule.begin(tau[rows])
                state = BranchState(latents.clone(), memory, start, trajectory.step)
                trajectory.branch_states[branch] = state
            else:
                state = trajectory.branch_states[branch]
                if verdict.all_compute:
                    state.latents = latents.clone()
                else:
                    compute = verdict.compute.view(-1, *[1] * (latents.ndim - 1))
                    state.latents = torch.where(compute, latents, state.latents)
                moved = torch.zeros_like(tau[rows]) if change is None else change[rows]
                state.memory = rule.advance(state.memory, tau[rows], verdict, moved)
            if position.context is None:
                state.seen = latents.clone()  # the caller may write into its own

    def _only_counts(self, position: CallPosition) -> bool:
        """Whether no score is needed: nothing is ever reused, and the call names its branches."""
        return not self._config.may_reuse and position.context is not None

    def _verdicts(
        self,
        call: Call,
        position: CallPosition,
        trajectory: Trajectory,
        deciding: Sequence[Branch],
        threshold: float,
    ) -> tuple[dict[Branch, Verdict], list[torch.Tensor]]:
        """Verdict of each branch, and for each the facts per row that the host needs.

        The facts, shape [6, rows]: S; the row computes; time fell, as within one run; the branches
        see the same latents; the call differs from the last; the end of its run is known.
        """
        tau = call.tau(self.num_train_timesteps)
        verdicts: dict[Branch, Verdict] = {}
        facts: list[torch.Tensor] = []
        for branch in deciding:
            rows, state = trajectory.rows_of(branch, position), trajectory.branch_states[branch]
            now, memory, latents = tau[rows], state.memory, call.latents[rows]
            distance = row_rms(latents.float() - state.latents.float())
            # Samplers round times, so an equal time is no sign of a new run. At the start it is:
            # after a run that raised at its first step, the next one has the same first time.
            same = (now <= memory.seen_tau) & (now < state.start_tau)
            limit, end_known = self._limit(call, position, state, now, threshold)
            verdict = self._rules[branch].verdict(memory, now, distance, limit)
            new = torch.ones_like(same)
            if state.seen is not None:
                new = (now != memory.seen_tau) | (latents != state.seen).flatten(1).any(1)
            verdicts[branch] = verdict
            paired = self._still_paired(call, position, trajectory)
            facts.append(
                torch.stack([verdict.score, verdict.compute, same, paired, new, end_known])
            )
        return verdicts, facts

    def _limit(
        self,
        call: Call,
        position: CallPosition,
        state: BranchState,
        tau: torch.Tensor,
        threshold: float,
    ) -> tuple[float | torch.Tensor, torch.Tensor]:
        """Threshold of a branch's rows, and whether the end of their run is known."""
        if position.step is not None:
            return threshold, torch.ones_like(tau, dtype=torch.bool)
        whole = self._sampler.starts_at_top(state.start_tau, call, self.num_train_timesteps)
        if not self._sampler.known or position.num_steps is None:
            return torch.where(whole, threshold, 0.0), whole
        steps = self._sampler.step_of(tau, call, self.num_train_timesteps)
        within = self._rules["cond"].thresholds(steps, position.num_steps)
        return torch.where(whole, threshold, within), torch.ones_like(whole)

    def _still_paired(
        self, call: Call, position: CallPosition, trajectory: Trajectory
    ) -> torch.Tensor:
        """Whether the branches that a call seemed to hold see the same latents, per sample."""
        if len(position.branches) == 1 or position.sure:
            return torch.ones(trajectory.samples, dtype=torch.bool, device=call.latents.device)
        first, *others = (
            call.latents[trajectory.rows_of(branch, position)] for branch in position.branches
        )
        # NaN is no sign of another clip: the branches of a row become NaN together.
        differs = torch.stack([(first != other) & (first == first) for other in others])
        return ~differs.any(0).flatten(1).any(1)

    def _settle(
        self,
        facts: list[torch.Tensor],
        verdicts: dict[Branch, Verdict],
        position: CallPosition,
        trajectory: Trajectory,
    ) -> Restart | None:
        """Transfer the verdicts to the host and note them, unless this is another trajectory.

        Raises:
            ValueError: See :meth:`decide`.
        """
        seen = torch.stack(facts)
        if self._agreement is not None:
            seen = self._agreement.settle(seen.float().cpu(), COMPUTE)
        on_host = seen.tolist()  # the one synchronisation
        for branch, rows in zip(verdicts, on_host, strict=True):
            score, compute, same, paired, new, end_known = rows
            if position.step is None and not all(same):
                return Restart()  # no step is published, and time rose
            if not all(paired):  # the supposed branches are clips that began alike
                return Restart(missed=trajectory.step)
            if not any(new):
                raise ValueError(unnamed_branches())
            if self._config.may_reuse and not all(end_known) and self._first_time("end"):
                warnings.warn(NO_END, UserWarning, stacklevel=2)
            if (
                self._config.may_reuse
                and not all(map(math.isfinite, score))
                and self._first_time("nan")
            ):
                _logger.warning(NOT_FINITE, trajectory.step + 1)
            computed = [bool(ran) for ran in compute]
            filled = fill_up(computed, score, self._config.row_buckets)
            if filled or self._agreement is not None:
                computed = filled or computed
                mask = torch.tensor(computed).to(trajectory.device, non_blocking=True)
                verdicts[branch] = replace(verdicts[branch], compute=mask)
            trajectory.decided[branch] = (verdicts[branch], computed)
        num_steps = position.num_steps
        if self._config.may_reuse and num_steps is not None and trajectory.step >= num_steps:
            raise ValueError(
                f"SenCacheConfig.num_inference_steps is {num_steps} but the pipeline has "
                f"come to step {trajectory.step + 1}; set it to what the pipeline is called with"
            )
        return None

    def _first_time(self, warning: str) -> bool:
        """Whether a warning was not given yet."""
        first = warning not in self._warned
        self._warned.add(warning)
        return first


def _follow(position: CallPosition, trajectory: Trajectory) -> list[bool]:
    """Verdict of a branch that follows cond, which was called earlier in this step.

    A row whose output is older than cond's last computed step computes in any case: guidance was
    off for a while, and the two outputs would be of different steps.
    """
    verdict = trajectory.computed or [True] * trajectory.samples
    steps = trajectory.computed_at[position.context]
    return [
        ran or steps[row] < trajectory.cond_computed_at[row % trajectory.samples]
        for row, ran in enumerate(verdict * len(position.branches))
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
        The verdicts; None where nothing is added, for example because no row computes.
    """
    wanted = sum(computed)
    size = next((bucket for bucket in buckets if bucket >= wanted), wanted)
    size = min(size, len(computed))
    if not wanted or size == wanted:
        return None
    idle = sorted((row for row, ran in enumerate(computed) if not ran), key=lambda r: -score[r])
    added = set(idle[: size - wanted])
    return [ran or row in added for row, ran in enumerate(computed)]
