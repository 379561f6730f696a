"""From a call to its decision: which rows the network computes, and what is remembered of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sencache.calls import Call
from sencache.config import SenCacheConfig
from sencache.measurement import Branch
from sencache.policy import SensitivityPolicy, Verdict, row_rms
from sencache.profile import ProfileWarning, SensitivityProfile
from sencache.trajectory import Moment, Track, Trajectory

# Only matters without a profile, where tau is read but decides nothing.
DEFAULT_TRAIN_TIMESTEPS = 1000

# Schedules start at 1, or at 0.999 where timesteps are counted from 0.
TOP_OF_SCHEDULE = 0.998


@dataclass(frozen=True)
class Decision:
    """What to do with a call.

    Attributes:
        computed: Per row of the call: whether the network runs for it.
        verdicts: The deciding branches' verdicts, where there was an earlier output to judge.
    """

    computed: list[bool]
    verdicts: Mapping[Branch, Verdict]


class Judge:
    """Decides calls by the policy of each deciding branch."""

    def __init__(self, config: SenCacheConfig, profile: SensitivityProfile | None) -> None:
        self._config = config
        self._train_timesteps = (
            profile.metadata.num_train_timesteps if profile else DEFAULT_TRAIN_TIMESTEPS
        )
        own = config.may_reuse and config.uncond_verdict == "own"
        deciding: tuple[Branch, ...] = ("cond", "uncond") if own else ("cond",)
        self._policies: dict[Branch, SensitivityPolicy] = {
            branch: SensitivityPolicy(config, profile.curve(branch) if profile else None)
            for branch in deciding
        }
        self._profile = profile if config.may_reuse else None
        self._compared: set[Branch] = set()
        self._told = False

    def compare(self, moment: Moment) -> None:
        """Warn once where the run is sampled otherwise than the profile's was.

        Pipelines publish their steps but not their guidance scale; that there is guidance shows.
        """
        new = set(moment.branches) - self._compared
        if self._profile is None or not new:
            return
        if not self._compared:
            self._profile.check(num_inference_steps=moment.num_steps)
        self._compared |= new
        if "uncond" in new and "uncond" not in self._profile.branches:
            warnings.warn(
                "profile was measured without guidance but the run has it; "
                "the same epsilon may reuse another number of steps",
                ProfileWarning,
                stacklevel=2,
            )

    def decide(self, call: Call, moment: Moment, trajectory: Trajectory) -> Decision | None:
        """Verdict per row of the call, on the host; at most one transfer from the device.

        Where no step is published, a run that does not start at the top of the schedule (image or
        video to video with strength < 1, the second network of Wan 2.2) may end at any step: none
        of it is reused, because the last step has to be computed.

        Returns:
            The decision; None where the time tells that the call begins another trajectory.

        Raises:
            ValueError: Guidance branches are not told apart, or the number of steps is unknown
                or wrong.
        """
        everything = [True] * call.rows
        # Asked for on the first call too, so that an unknown number of steps is told at once.
        threshold = self._policies["cond"].threshold(trajectory.step, moment.num_steps)
        if moment.context not in trajectory.outputs:
            return Decision(everything, {})
        deciding = [branch for branch in moment.branches if branch in self._policies]
        if not deciding:
            return Decision(_follow(moment, trajectory), {})

        verdicts, facts = self._judge(call, moment, trajectory, deciding, threshold)
        if moment.step is not None and threshold <= 0.0:
            return Decision(everything, verdicts)  # known without asking the device
        if moment.context is not None and not self._config.may_reuse:
            return Decision(everything, verdicts)  # and a mixed-up step could do no harm

        computed, same, repeated, from_top = torch.stack(facts).tolist()  # the one synchronisation
        if not all(from_top) and threshold > 0.0:
            self._tell_of_partial_run()
        if moment.step is None and not all(same):
            return None  # nobody tells the step, and time went back
        if all(repeated):
            raise ValueError(unnamed_branches())
        if (
            self._config.may_reuse
            and moment.num_steps is not None
            and trajectory.step >= moment.num_steps
        ):
            raise ValueError(
                f"SenCacheConfig.num_inference_steps is {moment.num_steps} but the pipeline has "
                f"come to step {trajectory.step + 1}; set it to what the pipeline is called with"
            )
        if len(deciding) < len(moment.branches):  # cond speaks for all branches of the call
            computed = computed * len(moment.branches)
        return Decision(computed, verdicts)

    def remember(
        self, call: Call, moment: Moment, trajectory: Trajectory, decision: Decision
    ) -> None:
        """Update the deciding branches after a call that went well."""
        tau = call.tau(self._train_timesteps)
        for branch in moment.branches:
            if branch not in self._policies:
                continue
            part, policy = trajectory.part(branch, moment), self._policies[branch]
            latents, verdict = call.latents[part], decision.verdicts.get(branch)
            if verdict is None:
                track = Track(latents.clone(), policy.begin(tau[part]), tau[part])
                trajectory.tracks[branch] = track
            else:
                track = trajectory.tracks[branch]
                keep = verdict.compute.view(-1, *[1] * (latents.ndim - 1))
                track.latents = torch.where(keep, latents, track.latents)
                track.memory = policy.advance(track.memory, tau[part], verdict.compute)
            if moment.context is None:
                track.seen = latents.clone()  # the caller may write into its own

    def _judge(
        self,
        call: Call,
        moment: Moment,
        trajectory: Trajectory,
        deciding: list[Branch],
        threshold: float,
    ) -> tuple[dict[Branch, Verdict], list[torch.Tensor]]:
        """Verdict of each deciding branch, and four facts per row for the host.

        The facts: the row computes; time went on as in one run; the call is the last one again;
        the run began at the top of the schedule or tells its steps.
        """
        tau = call.tau(self._train_timesteps)
        verdicts: dict[Branch, Verdict] = {}
        facts: list[torch.Tensor] = []
        for branch in deciding:
            part, track = trajectory.part(branch, moment), trajectory.tracks[branch]
            now, memory, latents = tau[part], track.memory, call.latents[part]
            distance = row_rms(latents.float() - track.latents.float())
            verdict = self._policies[branch].judge(memory, now, distance, threshold)
            # Equal times are no sign of a new run, because samplers round them, except at the
            # start: a run that raised at its first step is followed by that very time.
            same = (now <= memory.seen_tau) & (now < track.start_tau)
            from_top = torch.ones_like(same)
            if moment.step is None:
                from_top = track.start_tau >= TOP_OF_SCHEDULE
                verdict = Verdict(verdict.compute | ~from_top, verdict.score)
            repeated = torch.zeros_like(same)
            if track.seen is not None:
                repeated = (now == memory.seen_tau) & (latents == track.seen).flatten(1).all(1)
            verdicts[branch] = verdict
            facts.append(torch.stack([verdict.compute, same, repeated, from_top]))
        return verdicts, list(torch.cat(facts, dim=1))

    def _tell_of_partial_run(self) -> None:
        if self._told:
            return
        self._told = True
        warnings.warn(
            "SenCache reuses nothing in this run: the pipeline publishes no step_index through "
            "cache_context and the network is not run from the start of the schedule, so its "
            "last step, which has to be computed, is not known",
            UserWarning,
            stacklevel=2,
        )


def _follow(moment: Moment, trajectory: Trajectory) -> list[bool]:
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


def unnamed_branches() -> str:
    """The error text for a loop that calls one step twice without telling the branches apart."""
    return (
        "the transformer was called twice with the same latents and timestep outside of a cache "
        "context, so the branches of guidance cannot be told apart; wrap the calls in "
        '`with transformer.cache_context("cond"):` and `with transformer.cache_context("uncond"):`'
    )
