"""The diffusers hook round a transformer's forward: decide per row, gather, run, scatter.

Works at the root forward, where a step is the network's whole output (the paper's definition) and
where context-parallel ranks still see whole latents. Written against the hook machinery of
diffusers 0.42 (``diffusers.hooks.hooks``).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.calls import Call, CallReader, row_index
from sencache.config import SenCacheConfig
from sencache.families import Family
from sencache.judging import Decision, Judge
from sencache.policy import row_rms
from sencache.profile import SensitivityProfile
from sencache.stats import SampleStats, StatsRecorder
from sencache.trajectory import Moment, Trajectory


class SenCacheHook(ModelHook):
    """Wraps one transformer. Keeps the current trajectory and the last one's statistics.

    A trajectory begins with the first call after a reset and ends when diffusers resets stateful
    hooks at the end of a pipeline's call, or when a call raises. One that was broken off between
    two calls is not reset; the next is told from it by its step, its number of steps or its shape
    or, where no step is published, by its tau going back. Without reuse tau is not looked at in
    named contexts, to spare the synchronisation: only the statistics run on then.
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
        self._judge = Judge(config, profile)
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
        try:
            return self._answer(self._read(args, kwargs), self._moment(), args, kwargs)
        except BaseException:
            # The run is over. What it left must not be taken for the next run's first steps.
            self._trajectory = None
            raise

    def _answer(
        self, call: Call, moment: Moment, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._judge.compare(moment)
        trajectory = self._enter(call, moment)
        decision = self._judge.decide(call, moment, trajectory)
        if decision is None:
            trajectory = self._begin(call, moment)
            decision = Decision([True] * call.rows, {})
        previous = trajectory.outputs.get(moment.context)
        output = self._evaluate(call, args, kwargs, decision.computed, previous)
        sample = output[0].detach()
        self._judge.remember(call, moment, trajectory, decision)
        trajectory.note(moment, decision.computed)
        if "cond" in moment.branches:
            self._record(moment, trajectory, decision, previous, sample)
        trajectory.outputs[moment.context] = sample.clone()  # the caller may write into its own
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the trajectory's tensors; its statistics stay until the next one begins."""
        self._trajectory = None
        self.state_manager.reset()
        return module

    def stats(self) -> list[SampleStats]:
        """Statistics of the current trajectory or, after its end, of the last; else empty."""
        return self._stats.samples() if self._stats else []

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

    def _enter(self, call: Call, moment: Moment) -> Trajectory:
        """Move to the step that the call belongs to, in a new trajectory if need be."""
        samples = call.rows // len(moment.branches)
        trajectory = self._trajectory
        if trajectory is not None and trajectory.fits(call, samples):
            step = trajectory.step_of(moment)
            if step is not None:
                trajectory.enter(step)
                return trajectory
        return self._begin(call, moment)

    def _begin(self, call: Call, moment: Moment) -> Trajectory:
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
            num_steps=moment.num_steps,
            step=moment.step or 0,
        )
        return self._trajectory

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
            index = row_index(rows, merged.device)
            merged.index_copy_(0, index, forward(**call.select(index))[0].detach())
        return call.answer(merged)

    def _record(
        self,
        moment: Moment,
        trajectory: Trajectory,
        decision: Decision,
        previous: torch.Tensor | None,
        sample: torch.Tensor,
    ) -> None:
        """Note a step of the cond branch in the statistics."""
        part, verdict = trajectory.part("cond", moment), decision.verdicts.get("cond")
        if verdict is None or previous is None:
            trajectory.stats.record_first()
            return
        change = row_rms(sample[part].float() - previous[part].float())
        trajectory.stats.record(decision.computed[part], verdict.compute, verdict.score, change)
