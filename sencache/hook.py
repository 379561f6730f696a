"""The diffusers hook round a transformer's forward: decide per row, gather, run, scatter.

Works at the root forward, where a step is the network's whole output (the paper's definition) and
where context-parallel ranks still see whole latents. Written against the hook machinery of
diffusers 0.42 (``diffusers.hooks.hooks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.config import SenCacheConfig
from sencache.families import Call, CallReader, Family
from sencache.measurement import Branch
from sencache.policy import SensitivityPolicy, Verdict, row_rms
from sencache.profile import SensitivityProfile
from sencache.stats import SampleStats, StatsRecorder
from sencache.trajectory import Moment, Track, Trajectory

# Only matters without a profile, where tau is read but decides nothing.
DEFAULT_TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class Decision:
    """What to do with a call.

    Attributes:
        computed: Per row of the call: whether the network runs for it.
        verdicts: The deciding branches' verdicts, where there was an earlier output to judge.
    """

    computed: list[bool]
    verdicts: Mapping[Branch, Verdict]


class SenCacheHook(ModelHook):
    """Wraps one transformer. Keeps the current trajectory and the last one's statistics.

    A trajectory begins with the first call after a reset and ends when diffusers resets stateful
    hooks at the end of a pipeline's call. One that raised midway is not reset; the next is told
    from it by its step index or its tau going back, or by its shape.
    """

    _is_stateful = True

    def __init__(
        self, config: SenCacheConfig, profile: SensitivityProfile | None, family: Family
    ) -> None:
        super().__init__()
        # diffusers hands the cache context to attributes of this type only; its own per-context
        # states are not used because a verdict spans contexts.
        self.state_manager = StateManager(BaseState)
        self._config, self._family = config, family
        self._profile_hash = profile.hash if profile else ""
        self._train_timesteps = (
            profile.metadata.num_train_timesteps if profile else DEFAULT_TRAIN_TIMESTEPS
        )
        own = config.may_reuse and config.uncond_verdict == "own"
        deciding: tuple[Branch, ...] = ("cond", "uncond") if own else ("cond",)
        self._policies: dict[Branch, SensitivityPolicy] = {
            branch: SensitivityPolicy(config, profile.curve(branch) if profile else None)
            for branch in deciding
        }
        self._read: CallReader | None = None
        self._trajectory: Trajectory | None = None
        self._stats: StatsRecorder | None = None

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the transformer's forward; same arguments, same kind of result.

        Compile the transformer's blocks rather than its whole forward: this function depends on
        data and stays out of graphs.
        """
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        call, moment = self._read(args, kwargs), self._moment()
        self._enter(call, moment)
        decision = self._decide(call, moment)
        trajectory = self._current
        previous = trajectory.outputs.get(moment.context)
        output = self._evaluate(call, args, kwargs, decision.computed, previous)
        # Nothing is remembered of a call that raised: the lines below are not reached.
        sample = output[0].detach()
        self._remember(call, moment, decision, previous, sample)
        trajectory.outputs[moment.context] = sample.clone()  # the caller may write into its own
        trajectory.done.add(moment.context)
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the trajectory's tensors; its statistics stay until the next one begins."""
        self._trajectory = None
        self.state_manager.reset()
        return module

    def stats(self) -> list[SampleStats]:
        """Statistics of the current trajectory or, after its end, of the last; else empty."""
        return self._stats.samples() if self._stats else []

    @property
    def _current(self) -> Trajectory:
        if self._trajectory is None:
            raise RuntimeError("the hook was reset while the network was running")
        return self._trajectory

    def _moment(self) -> Moment:
        context = self.state_manager._context
        if context is None:
            return Moment(None, None, self._config.num_inference_steps, ("cond",))
        return Moment(
            context.name,
            context.step_index,
            context.num_inference_steps or self._config.num_inference_steps,
            self._family.branches(context.name),
        )

    def _enter(self, call: Call, moment: Moment) -> None:
        """Move to the step that the call belongs to, in a new trajectory if need be."""
        samples = call.rows // len(moment.branches)
        trajectory = self._trajectory
        if trajectory is not None and trajectory.fits(call, samples):
            step = trajectory.step_of(moment)
            if step is not None:
                trajectory.enter(step)
                return
        self._begin(call, moment)

    def _begin(self, call: Call, moment: Moment) -> None:
        samples, latents = call.rows // len(moment.branches), call.latents
        self._stats = StatsRecorder(
            samples, latents.device, self._config.policy, self._profile_hash
        )
        self._trajectory = Trajectory(
            samples,
            latents.shape[1:],
            latents.dtype,
            latents.device,
            self._stats,
            step=moment.step or 0,
        )

    def _decide(self, call: Call, moment: Moment) -> Decision:
        """Verdict per row of the call, on the host; at most one transfer from the device."""
        trajectory, everything = self._current, [True] * call.rows
        # Asked for on the first call too, so that an unknown number of steps is told at once.
        threshold = self._policies["cond"].threshold(trajectory.step, moment.num_steps)
        if moment.context not in trajectory.outputs:
            return Decision(everything, {})
        deciding = [branch for branch in moment.branches if branch in self._policies]
        if not deciding:  # follows the cond branch, which was called earlier in this step
            computed = trajectory.computed or [True] * trajectory.samples
            return Decision(computed * len(moment.branches), {})

        verdicts, continues = self._judge(call, moment, deciding, threshold)
        if moment.step is not None and threshold <= 0.0:
            return Decision(everything, verdicts)  # known without asking the device

        compute = torch.cat([verdicts[branch].compute for branch in deciding])
        computed, same = torch.stack([compute, continues]).tolist()  # the one synchronisation
        if moment.step is None and not all(same):
            # Nobody tells the step, and time went back: the first step of another trajectory.
            self._begin(call, moment)
            return Decision(everything, {})
        if moment.num_steps is not None and trajectory.step >= moment.num_steps:
            raise ValueError(
                f"SenCacheConfig.num_inference_steps is {moment.num_steps} but the pipeline has "
                f"come to step {trajectory.step + 1}; set it to what the pipeline is called with"
            )
        if len(deciding) < len(moment.branches):  # cond speaks for all branches of the call
            computed = computed * len(moment.branches)
        return Decision(computed, verdicts)

    def _judge(
        self, call: Call, moment: Moment, deciding: list[Branch], threshold: float
    ) -> tuple[dict[Branch, Verdict], torch.Tensor]:
        """Verdict of each deciding branch, and per row whether time went on as in one run."""
        tau = call.tau(self._train_timesteps)
        verdicts: dict[Branch, Verdict] = {}
        continues: list[torch.Tensor] = []
        for branch in deciding:
            part, track = self._part(branch, moment), self._current.tracks[branch]
            distance = row_rms(call.latents[part].float() - track.latents.float())
            verdicts[branch] = self._policies[branch].judge(
                track.memory, tau[part], distance, threshold
            )
            # Equal times are no sign of a new run, because samplers round them, except at the
            # start: a run that raised at its first step is followed by that very time.
            continues.append((tau[part] <= track.memory.seen_tau) & (tau[part] < track.start_tau))
        return verdicts, torch.cat(continues)

    def _evaluate(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        computed: list[bool],
        previous: torch.Tensor | None,
    ) -> Any:
        """Run the network on the rows that need it and fill in the others' last output."""
        forward = self.fn_ref.original_forward
        if previous is None or all(computed):
            return forward(*args, **kwargs)  # untouched, so bit-identical to no cache
        merged = previous.clone()
        rows = [row for row, ran in enumerate(computed) if ran]
        if rows:
            part = forward(**call.select(rows))[0].detach()
            merged.index_copy_(0, torch.tensor(rows, device=merged.device), part)
        return call.answer(merged)

    def _remember(
        self,
        call: Call,
        moment: Moment,
        decision: Decision,
        previous: torch.Tensor | None,
        sample: torch.Tensor,
    ) -> None:
        """Update the deciding branches and the statistics."""
        trajectory, tau = self._current, call.tau(self._train_timesteps)
        for branch in moment.branches:
            if branch not in self._policies:
                continue
            part, policy = self._part(branch, moment), self._policies[branch]
            latents, verdict = call.latents[part], decision.verdicts.get(branch)
            if verdict is None:
                trajectory.tracks[branch] = Track(
                    latents.clone(), policy.begin(tau[part]), tau[part]
                )
            else:
                track = trajectory.tracks[branch]
                keep = verdict.compute.view(-1, *[1] * (latents.ndim - 1))
                track.latents = torch.where(keep, latents, track.latents)
                track.memory = policy.advance(track.memory, tau[part], verdict.compute)
            if branch != "cond":
                continue
            trajectory.computed = decision.computed[part]
            if verdict is None or previous is None:
                trajectory.stats.record_first()
            else:
                change = row_rms(sample[part].float() - previous[part].float())
                trajectory.stats.record(trajectory.computed, verdict.compute, verdict.score, change)

    def _part(self, branch: Branch, moment: Moment) -> slice:
        """Rows of a branch in a call that holds several, one block of rows after another."""
        samples = self._current.samples
        first = moment.branches.index(branch) * samples
        return slice(first, first + samples)
