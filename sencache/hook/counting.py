"""The hook of runs without reuse: runs the network as it is and counts its calls.

Knows as little as possible about the network, so that it works on every pipeline of diffusers: with
and without cache contexts, with one output or several, with any number of calls per step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.families.base import Family
from sencache.hook.attachment import RefusesCopy
from sencache.hook.call import is_paired
from sencache.hook.sampler_position import SamplerPosition
from sencache.stats import RunLog, SampleStats

SAME_TIME = 1e-9
"""Largest relative difference of two times of one step; both are float64 means of equal values."""


@dataclass(frozen=True)
class CountedCall:
    """One call of the network.

    Attributes:
        rows: Rows of its batch.
        step: Index of its step, as far as the pipeline or its scheduler tells.
        time: Mean of its timesteps, a scalar in float64, still on its device; None where the
            network has no timestep.
    """

    rows: int
    step: int | None
    time: torch.Tensor | None


class CallCounts:
    """The statistics of one run in which the network runs at every call.

    Finds the steps only when it is read, by one transfer from the device: a step ends where the
    index that the scheduler publishes moves, or the time does.

    Attributes:
        rows: Samples in the batch.
    """

    def __init__(self, rows: int, policy: str, profile: str, *, whole: bool) -> None:
        """Begin a run.

        Args:
            rows: Samples in the batch.
            policy: Name of the policy.
            profile: Hash of the profile; "" without one.
            whole: Whether all calls are known to belong to one run. Otherwise the last run begins
                where time turns back.
        """
        self.rows = rows
        self._policy, self._profile, self._whole = policy, profile, whole
        self._calls: list[CountedCall] = []

    def add(self, call: CountedCall) -> None:
        """Count a call."""
        self._calls.append(call)

    @property
    def last_step(self) -> int | None:
        """Index of the latest call's step, if known."""
        return self._calls[-1].step if self._calls else None

    def samples(self) -> list[SampleStats]:
        """The statistics so far, one per sample; all are alike."""
        steps = self._steps()
        evaluations = sum(sum(rows) for rows in steps) // self.rows
        sample = SampleStats(
            policy=self._policy,
            profile=self._profile,
            nfe=len(steps),
            reused=0,
            decisions="C" * len(steps),
            evaluations=evaluations,
            predicted_error=None,
            actual_error=None,
            max_score=0.0,
        )
        return [sample] * self.rows

    def _steps(self) -> list[list[int]]:
        """Rows of the calls of each step."""
        times = self._times()
        steps: list[list[int]] = []
        forward: bool | None = None  # whether time rises in this run
        for number, call in enumerate(self._calls):
            if number == 0 or self._moved(number, times):
                before, now = times[number - 1] if number else None, times[number]
                if number and before is not None and now is not None and before != now:
                    turned = forward is not None and (now > before) is not forward
                    forward = now > before
                    if turned and not self._whole:
                        steps, forward = [], None
                steps.append([])
            steps[-1].append(call.rows)
        return steps

    def _moved(self, number: int, times: list[float | None]) -> bool:
        """Whether a call belongs to another step than the call before it."""
        before, now = times[number - 1], times[number]
        if self._calls[number].step != self._calls[number - 1].step:
            return True
        if before is None or now is None:
            return self._calls[number].step is None  # nothing tells steps apart
        return abs(now - before) > SAME_TIME * max(abs(now), abs(before))

    def _times(self) -> list[float | None]:
        known = [call.time for call in self._calls if call.time is not None]
        if not known:
            return [None] * len(self._calls)
        values = iter(torch.stack([time.to(known[0].device) for time in known]).tolist())
        return [None if call.time is None else next(values) for call in self._calls]


class CountingHook(RefusesCopy, ModelHook):
    """Runs the network at every call, unchanged, and counts.

    A run ends when diffusers resets stateful hooks at the end of a pipeline's call, when a call
    raises, and when the scheduler sets new timesteps.
    """

    _is_stateful = True

    def __init__(
        self,
        family: Family | None,
        policy: str,
        profile_hash: str,
        sampler: SamplerPosition,
        log: RunLog,
        guidance: Callable[[], bool | None],
    ) -> None:
        """Keep whom to ask.

        Args:
            family: Of the network; None if it is not known.
            policy: Name of the policy, for the statistics.
            profile_hash: Likewise; "" without a profile.
            sampler: Of the pipeline.
            log: Collects the statistics of all networks.
            guidance: Tells whether guidance is on; None if neither settings nor pipeline tell.
        """
        super().__init__()
        self.state_manager = StateManager(BaseState)  # diffusers gives it the cache context
        self._family, self._policy, self._profile = family, policy, profile_hash
        self._sampler, self._log, self._guidance = sampler, log, guidance
        self._signature: inspect.Signature | None = None
        self._is_reset = False
        self._counts: CallCounts | None = None
        self._run: object | None = None

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the network's forward; same arguments, the very same result."""
        forward = self.fn_ref.original_forward
        try:
            if self._signature is None:
                self._signature = inspect.signature(forward)
                self._is_reset = hasattr(module, "_reset_stateful_cache")
            self._count(self._signature.bind(*args, **kwargs).arguments)
            return forward(*args, **kwargs)
        except BaseException:
            self._counts = None  # the run is over
            raise

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """End the run; its statistics stay until the next one begins."""
        self._counts = self._run = None
        self._log.end()
        self.state_manager.reset()
        return module

    def release(self) -> None:
        """Nothing to remove but the hook itself."""

    def _count(self, arguments: Mapping[str, Any]) -> None:
        context = self.state_manager._context
        latents = self._latents(arguments)
        rows = len(latents) if isinstance(latents, (torch.Tensor, list, tuple)) else 1
        step = None if context is None else context.step_index
        step, run = self._sampler.step() if step is None else step, self._sampler.run()
        if self._counts is None or self._begins(run, rows, step, self._counts):
            name = None if context is None else context.name
            samples = max(rows // self._branches(name, latents), 1)
            whole = run is not None
            self._counts = CallCounts(samples, self._policy, self._profile, whole=whole)
            self._log.begin(id(self), self._counts, run)
        self._run = run
        self._counts.add(CountedCall(rows, step, _mean_time(self._timestep(arguments))))

    def _begins(self, run: object, rows: int, step: int | None, counts: CallCounts) -> bool:
        """Whether a call begins another run than the current one."""
        if rows % counts.rows:
            return True
        if run is self._run:
            # Without a scheduler only a published step tells.
            return step is not None and counts.last_step is not None and step < counts.last_step
        # Pipelines of some families, and perhaps of unknown ones, make a clip in chunks, each with
        # new timesteps: their end is told by diffusers' reset, which only networks with cache
        # contexts get. An aborted run does not come to its last step.
        steps = self._sampler.length(self._run)
        finished = steps is not None and counts.last_step == steps - 1
        whole = self._family is not None and not self._family.chunked
        return whole or not self._is_reset or not finished

    def _branches(self, name: str | None, latents: Any) -> int:
        """Branches of guidance in a run's first call; may wait for the device."""
        possible = 2 if name in (None, "cond_uncond") else 1
        if self._family is not None and name is not None and name in self._family.contexts:
            possible = len(self._family.contexts[name])
        guidance = self._guidance()
        if possible == 1 or guidance is False:
            return 1
        if name is not None and guidance:
            return possible
        return possible if isinstance(latents, torch.Tensor) and is_paired(latents) else 1

    def _latents(self, arguments: Mapping[str, Any]) -> Any:
        if self._family is not None:
            return arguments.get(self._family.latents)
        return next(iter(arguments.values()), None)

    def _timestep(self, arguments: Mapping[str, Any]) -> Any:
        if self._family is not None:
            return arguments.get(self._family.timestep)
        return next((value for name, value in arguments.items() if "timestep" in name), None)


def _mean_time(timestep: Any) -> torch.Tensor | None:
    """Mean of a call's timesteps, in float64 where the device has it; None if there is none."""
    if isinstance(timestep, (int, float)):
        return torch.tensor(float(timestep), dtype=torch.float64)
    if not isinstance(timestep, torch.Tensor) or not timestep.numel():
        return None
    dtype = torch.float32 if timestep.device.type == "mps" else torch.float64
    return timestep.detach().to(dtype).mean()
