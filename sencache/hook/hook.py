"""The diffusers hook around a transformer's forward: ask the policy, run or reuse, keep, count.

Hooks the root forward, where a step is the network's whole output (the paper's definition) and
where context-parallel ranks still see whole latents. Written against the hook machinery of
diffusers 0.42 (``diffusers.hooks.hooks``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.config import SenCacheConfig
from sencache.families.base import Family
from sencache.hook.attachment import RefusesCopy
from sencache.hook.call import Call, CallReader, is_paired
from sencache.hook.naming import CallNames
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import CallPosition, Trajectory
from sencache.policies.base import Decision, Policy, Restart, unnamed_branches
from sencache.reuse.base import NetworkCall, Reuse, RowSelection
from sencache.schedules.levels import promise
from sencache.stats import RunLog, StatsRecorder


@dataclass(frozen=True)
class UnnamedCall:
    """The latest call without a context, to which the next one is compared.

    Attributes:
        run: See :class:`CallPosition`.
        step: See :class:`CallPosition`.
        latents: A copy.
        tau: Time of each row.
    """

    run: object
    step: int | None
    latents: torch.Tensor
    tau: torch.Tensor


class SenCacheHook(RefusesCopy, ModelHook):
    """Wraps one transformer and keeps the current trajectory.

    A trajectory begins with the first call after a reset and ends when diffusers resets stateful
    hooks at the end of a pipeline's call, or when a call raises. A run that is aborted between two
    calls resets nothing. The next run then shows by its step, its number of steps or its shape or,
    where no step is published, by a tau that rises. Runs without reuse have a hook of their own
    (:class:`~sencache.hook.counting.CountingHook`).

    Attributes:
        reuse: What answers the calls of which not every row computes.
        error_scale: Of the profile: what the error of a cache schedule is multiplied by to be
            relative to the final latents.
    """

    _is_stateful = True

    def __init__(
        self,
        config: SenCacheConfig,
        profile_hash: str,
        family: Family,
        policy: Policy,
        reuse: Reuse,
        sampler: SamplerPosition,
        log: RunLog,
        guidance: Callable[[], bool | None],
    ) -> None:
        super().__init__()
        # diffusers gives the cache context to attributes of this type only. Its per-context states
        # stay unused because a verdict spans contexts.
        self.state_manager = StateManager(BaseState)
        self._config, self._family = config, family
        self._profile_hash = profile_hash
        self.reuse, self._sampler, self._log = reuse, sampler, log
        self._policy, self._guidance = policy, guidance
        self.error_scale = 1.0
        self._read: CallReader | None = None
        self._names = CallNames(family, sampler)
        self._trajectory: Trajectory | None = None
        self._unnamed: UnnamedCall | None = None

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the transformer's forward; same arguments, same kind of result.

        Compile the transformer's blocks rather than its whole forward: this function depends on
        data and cannot be part of a graph.
        """
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        try:
            return self._answer(self._read(args, kwargs), args, kwargs)
        except BaseException:
            # The run is over. Its state must not pass for the next run's first steps.
            self._forget()
            raise

    def _answer(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context = self.state_manager._context
        name = self._names.name(context.name if context else None, call)
        position = self._position(call, name)
        call = self._names.timed(call, position.step, self._policy.num_train_timesteps)
        self._policy.prepare(call, position)
        trajectory = self._enter(call, position)
        trajectory.observe(call, position)
        decision = self._policy.decide(call, position, trajectory)
        if isinstance(decision, Restart):
            position = self._position(call, name, afresh=True)
            trajectory = self._begin(call, position, decision.missed)
            trajectory.observe(call, position)
            decision = self._decided(call, position, trajectory)
        if not all(decision.computed) and trajectory.conditions[position.context].differed():
            trajectory.kept.pop(position.context, None)
            decision = self._decided(call, position, trajectory)
        if trajectory.schedule is not None:
            trajectory.stats.promise(promise(trajectory.schedule.error * self.error_scale))
        before = trajectory.kept.get(position.context)
        selection = RowSelection(
            trajectory.step,
            decision.computed,
            # Measuring reads the whole output once more, so only deciding branches are measured.
            measured=bool(decision.scores),
            groups=decision.groups,
        )
        network_call = NetworkCall(self.fn_ref.original_forward, call, args, kwargs)
        answer, kept = self.reuse.evaluate(network_call, selection, before)
        change = kept.change
        self._policy.remember(call, position, trajectory, decision, change)
        trajectory.note(position, kept, decision.computed)
        trajectory.stats.count(decision.computed)
        if "cond" in position.branches:
            rows, score = trajectory.rows_of("cond", position), decision.scores.get("cond")
            trajectory.stats.record(
                decision.computed[rows], score, None if change is None else change[rows]
            )
        return answer

    def _decided(self, call: Call, position: CallPosition, trajectory: Trajectory) -> Decision:
        """A decision about a call that is known to belong to the trajectory."""
        decision = self._policy.decide(call, position, trajectory)
        if isinstance(decision, Restart):
            raise RuntimeError("a run that has just begun was taken for another one")
        return decision

    def release(self) -> None:
        """Remove from the network what the reuse put on it."""
        self.reuse.release()

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the trajectory's tensors; its statistics stay until the next one begins."""
        self._forget()
        self._log.end()
        self.state_manager.reset()
        return module

    def _forget(self) -> None:
        """Take the next call for the first of a run."""
        self._trajectory = self._unnamed = None
        self._names.forget()

    def _position(self, call: Call, name: str | None, *, afresh: bool = False) -> CallPosition:
        context = self.state_manager._context
        num_steps = self._sampler.num_steps() or self._config.num_inference_steps
        step, run = self._sampler.step(), self._sampler.run()
        if name is None:
            if not afresh:  # else this very call is the one before
                self._refuse_repeated(call, run, step)
            return CallPosition(None, step, num_steps, ("cond",), run=run)
        possible, guidance = self._family.branches(name), self._guidance()
        sure = len(possible) == 1 or guidance is not None
        if len(possible) > 1:
            if guidance is None:
                guidance = self._seems_guided(call, name, len(possible), afresh)
            possible = possible if guidance else ("cond",)
        if step is None and self._family.clock == "sampler":
            step = 0  # the scheduler counts from its first step on, and time does not tell
        if context is not None:
            step = step if context.step_index is None else context.step_index
            num_steps = context.num_inference_steps or num_steps
        return CallPosition(name, step, num_steps, possible, sure, run)

    def _refuse_repeated(self, call: Call, run: object | None, step: int | None) -> None:
        """Raise ValueError where a call without a context is the same step's second.

        Waits for the device only where the scheduler has not moved on since the call before.
        """
        if run is None:
            return  # the policy compares times instead
        before, self._unnamed = self._unnamed, None
        first, tau = before is None or before.run is not run, call.tau(1)
        if (
            before is not None
            and not first
            and before.step == step
            and torch.equal(before.tau, tau)
            and torch.equal(before.latents, call.latents)
        ):
            raise ValueError(unnamed_branches())
        self._unnamed = UnnamedCall(run, step, call.latents.clone(), tau)

    def _seems_guided(self, call: Call, context: str, branches: int, afresh: bool) -> bool:
        """Whether a call seems to hold all branches: without guidance only cond is there."""
        if self._trajectory is not None and not afresh:
            known = self._trajectory.branches.get(context)
            if known is not None and call.rows == self._trajectory.samples * len(known):
                return len(known) == branches
        return is_paired(call.latents)

    def _enter(self, call: Call, position: CallPosition) -> Trajectory:
        """Move to the step that the call belongs to, in a new trajectory if need be."""
        samples = call.rows // len(position.branches)
        trajectory = self._trajectory
        if trajectory is not None and trajectory.fits(call, samples):
            step = trajectory.step_of(position)
            if step is not None:
                trajectory.enter(step)
                return trajectory
        return self._begin(call, position)

    def _begin(self, call: Call, position: CallPosition, missed: int = 0) -> Trajectory:
        """Start a trajectory; the one before it computed `missed` of its steps."""
        samples, latents = call.rows // len(position.branches), call.latents
        before = self._trajectory
        next_chunk = (
            self._family.chunked
            and before is not None
            and before.samples == samples
            and before.precedes(position)
        )
        stats = StatsRecorder(samples, self._config.policy, self._profile_hash)
        for _ in range(missed):
            stats.record([True] * samples)
        self._log.begin(id(self), stats, position.run, next_chunk=next_chunk)
        self._trajectory = Trajectory(
            samples,
            latents.shape[1:],
            latents.dtype,
            latents.device,
            stats,
            num_steps=position.num_steps,
            step=self._first_step(call, position) if position.step is None else position.step,
            run=position.run,
        )
        self._trajectory.step = max(self._trajectory.step, missed)
        return self._trajectory

    def _first_step(self, call: Call, position: CallPosition) -> int:
        """Step at which a run begins whose pipeline does not tell; may wait for the device."""
        if position.run is None:
            return 0
        unit = self._policy.num_train_timesteps
        return int(self._sampler.step_of(call.tau(unit)[:1], call, unit).item())
