"""Secants of the network along the steps that a pipeline takes.

Those of the paper (arXiv 2602.24208), along the sampler's own direction:

    a_x(t_i) = rms(f(x_{i+1}, t_i) - f(x_i, t_i)) / rms(x_{i+1} - x_i)
    a_t(t_i) = rms(f(x_i, t_{i+1}) - f(x_i, t_i)) / |tau_{i+1} - tau_i|

A hook on each transformer of the pipeline sees them: x_i, t_i and f(x_i, t_i) are those of a
normal run, or of given clips noised to the run's times. A multistep sampler (UniPC) that is stepped
outside of a run, from unrelated noise, would blend latents of different clips and give differences
of the size of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.calibration.clips import NoisedClips
from sencache.calibration.outputs import OutputRecorder
from sencache.families.base import Family
from sencache.hook.call import Call, CallReader, is_paired, row_rms
from sencache.hook.naming import CallNames
from sencache.hook.sampler_position import SamplerPosition
from sencache.policies.base import unnamed_branches
from sencache.profiles.metadata import Branch, dtype_name


@dataclass(frozen=True)
class Secant:
    """What one step of a batch of clips measured in one branch.

    Attributes:
        tau, next_tau: Times of the step and of the one after it, in [0, 1].
        a_x, a_t: Sensitivities, one per clip.
        margin: The smaller of the two changes of the output, in units of what the network's dtype
            can resolve there (its eps x rms of the output), one per clip.
    """

    tau: float
    next_tau: float
    a_x: tuple[float, ...]
    a_t: tuple[float, ...]
    margin: tuple[float, ...]


@dataclass(frozen=True)
class SecantBatch:
    """What one pipeline call measured.

    Attributes:
        steps: Steps of the sampler.
        evaluations: Rows that the networks evaluated, including those of the pipeline itself.
        dtype: Dtype of the networks' input, such as "bfloat16".
        secants: Per branch, in the order of sampling, of all networks of the pipeline.
        tau: Time of each step whose output was kept, shape [T]; may be empty.
        distances: Of the guided outputs, mean over the clips, shape [T, T].
    """

    steps: int
    evaluations: int
    dtype: str
    secants: Mapping[Branch, tuple[Secant, ...]]
    tau: tuple[float, ...] = ()
    distances: tuple[tuple[float, ...], ...] = ()


class SecantRecorder:
    """What the hooks on all networks of a pipeline see during one call of it."""

    def __init__(
        self,
        num_train_timesteps: int,
        on_step: Callable[[int], None],
        inputs: NoisedClips | None = None,
        outputs: OutputRecorder | None = None,
    ) -> None:
        """Begin a recording.

        Args:
            num_train_timesteps: What timesteps are divided by to get tau.
            on_step: Called at every step of the sampler with the steps so far.
            inputs: Clips that the networks see instead of the pipeline's latents.
            outputs: Keeps the networks' outputs.
        """
        self.num_train_timesteps, self.inputs = num_train_timesteps, inputs
        self.outputs = outputs
        self.secants: dict[Branch, list[Secant]] = {}
        self.evaluations, self.dtype, self.step = 0, "", -1
        self._on_step = on_step
        self._first: str | None = None
        self._last: CalibrationHook | None = None

    def enter(self, hook: CalibrationHook, context: str | None) -> None:
        """Note a network call, which may be of another network and may begin the next step."""
        if self._last is not None and self._last is not hook:
            self._last.forget()  # no secant spans two networks
        if self.step < 0:
            self._first = context  # its calls count the steps
        if context == self._first:
            self.step += 1
            self._on_step(self.step + 1)
        self._last = hook

    def result(self, steps: int) -> SecantBatch:
        """What was measured, after the call."""
        secants = {branch: tuple(measured) for branch, measured in self.secants.items()}
        batch = SecantBatch(steps, self.evaluations, self.dtype, secants)
        if self.outputs is None:
            return batch
        distances = tuple(tuple(row) for row in self.outputs.distances().tolist())
        return replace(batch, tau=self.outputs.taus(), distances=distances)


class CalibrationHook(ModelHook):
    """Evaluates one network twice more per step and branch while its pipeline samples.

    At step i+1 it knows x_i, t_i, f(x_i, t_i) of the step before and x_{i+1}, t_{i+1} of this
    one: all that the two secants at t_i need. The pipeline gets the same output as without the
    hook or, if clips are given, the network's output for these.

    A step is measured where, in every row, tau is below that of every earlier point and the latents
    move. This leaves out the repeated timesteps of Heun, those that rounding makes equal, and those
    of a sampler that returns to more noise.
    """

    _is_stateful = True

    def __init__(
        self,
        family: Family,
        recorder: SecantRecorder,
        guidance_scale: float | None = None,
        sampler: SamplerPosition | None = None,
    ) -> None:
        super().__init__()
        self._scale = guidance_scale
        self._sampler = sampler or SamplerPosition()
        self._names = CallNames(family, self._sampler)
        self.state_manager = StateManager(BaseState)  # receives the cache context
        self.measured = 0  # steps, every branch counted by itself
        self._family, self._recorder = family, recorder
        self._read: CallReader | None = None
        self._before: dict[str | None, tuple[Call, torch.Tensor]] = {}
        self._seen: Call | None = None

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the network's own output and measure."""
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        call = self._read(args, kwargs)
        context = self.state_manager._context
        name = self._names.name(context.name if context else None, call)
        unit = self._recorder.num_train_timesteps
        call = self._names.timed(call, self._sampler.step(), unit)
        branches = self._branches(name, call)
        if name is None:
            self._refuse_repeated(call)
        self._recorder.enter(self, name)
        if self._recorder.inputs is None:
            answer = self.fn_ref.original_forward(*args, **kwargs)
        else:
            call = self._with_latents(call, self._recorder.inputs.like(call, self._recorder.step))
            answer = self.fn_ref.original_forward(**call.arguments)
        output = call.output(answer).detach()
        if self._recorder.outputs is not None:
            tau = call.tau(unit).max().item()
            self._recorder.outputs.add(self._recorder.step, tau, branches, output, self._scale)
        self._recorder.evaluations += call.rows
        self._recorder.dtype = dtype_name(call.latents.dtype)
        if branches == ("perturbed",):
            return answer  # it follows the decisions of cond, so no profile has it
        if name in self._before and self._before[name][0].rows == call.rows:
            # Otherwise guidance was switched on or off in between.
            self._measure(*self._before[name], call, branches)
        # Copies: the pipeline may write into its latents and into the output.
        kept = self._with_latents(call, call.arguments[self._family.latents].detach().clone())
        self._before[name] = (kept, output.clone())
        return answer

    def forget(self) -> None:
        """Forget the last step."""
        self._before, self._seen = {}, None
        self._names.forget()

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the last step; diffusers calls this at the end of a pipeline call."""
        self.forget()
        self.state_manager.reset()
        return module

    def _branches(self, name: str | None, call: Call) -> tuple[Branch, ...]:
        """Branches of a call; without guidance, a context of both branches holds cond alone."""
        branches = self._family.branches(name)
        if len(branches) > 1 and not is_paired(call.latents):
            return ("cond",)
        return branches

    def _refuse_repeated(self, now: Call) -> None:
        """Raise ValueError if a call without a context is the second of its step."""
        before, unit = self._seen, self._recorder.num_train_timesteps
        if (
            before is not None
            and before.tau(unit).equal(now.tau(unit))
            and before.latents.equal(now.latents)
        ):
            raise ValueError(unnamed_branches())
        latents = now.arguments[self._family.latents].detach().clone()
        self._seen = self._with_latents(now, latents)

    def _with_latents(self, call: Call, latents: torch.Tensor) -> Call:
        assert self._read is not None  # noqa: S101 - set by the call that led here
        moved = self._read((), {**call.arguments, self._family.latents: latents})
        return replace(moved, sampler_tau=call.sampler_tau)

    def _measure(
        self, before: Call, output: torch.Tensor, now: Call, branches: tuple[Branch, ...]
    ) -> None:
        unit, family = self._recorder.num_train_timesteps, self._family
        tau, next_tau = before.tau(unit), now.tau(unit)
        step = row_rms(now.latents.float() - before.latents.float())
        known = [self._recorder.secants[b][-1].tau for b in branches if b in self._recorder.secants]
        lowest = min(known, default=float("inf"))
        if bool(((next_tau >= tau) | (tau >= lowest) | (step == 0)).any()):
            return
        change_x = row_rms(self._evaluate(before, family.latents, now).float() - output.float())
        change_t = row_rms(self._evaluate(before, family.timestep, now).float() - output.float())
        eps = max(torch.finfo(dtype).eps for dtype in (output.dtype, before.latents.dtype))
        resolved = (eps * row_rms(output)).clamp_min(torch.finfo(torch.float32).tiny)
        margin = torch.minimum(change_x, change_t) / resolved
        values = (tau, next_tau, change_x / step, change_t / (next_tau - tau).abs(), margin)
        rows = [value.float().cpu().chunk(len(branches)) for value in values]
        for branch, at, then, *per_clip in zip(branches, *rows, strict=True):
            secant = Secant(at[0].item(), then[0].item(), *(tuple(v.tolist()) for v in per_clip))
            self._recorder.secants.setdefault(branch, []).append(secant)
            self.measured += 1

    def _evaluate(self, before: Call, argument: str, now: Call) -> torch.Tensor:
        """The output of the step before with one argument taken from this step.

        Arguments that move with the latents or with the timestep are taken along.
        """
        moved = {**before.arguments, argument: now.arguments[argument]}
        for name in self._family.moving:
            value = now.arguments.get(name)
            is_latent = isinstance(value, torch.Tensor) and value.ndim > 2
            if value is not None and is_latent is (argument == self._family.latents):
                moved[name] = value
        self._recorder.evaluations += before.rows
        return before.output(self.fn_ref.original_forward(**moved)).detach()
