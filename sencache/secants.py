"""Secants of the network along a genuine sampling run.

Those of the paper (arXiv 2602.24208), along the sampler's own direction:

    a_x(t_i) = rms(f(x_{i+1}, t_i) - f(x_i, t_i)) / rms(x_{i+1} - x_i)
    a_t(t_i) = rms(f(x_i, t_{i+1}) - f(x_i, t_i)) / |tau_{i+1} - tau_i|

x_i, t_i and f(x_i, t_i) are those of a genuine run of the pipeline, seen by a hook on the
transformer. A multistep sampler (UniPC) stepped on its own from unrelated noise would blend
latents of different clips and give differences of the size of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.calls import Call, CallReader
from sencache.families import Family
from sencache.judging import unnamed_branches
from sencache.measurement import Branch, dtype_name
from sencache.policy import row_rms


@dataclass(frozen=True)
class Secant:
    """What one step of a batch of clips measured; tensors of shape [clips]."""

    tau: torch.Tensor
    next_tau: torch.Tensor
    a_x: torch.Tensor
    a_t: torch.Tensor


class CalibrationHook(ModelHook):
    """Watches one pipeline call and evaluates the network twice more per step and branch.

    At step i+1 it knows x_i, t_i, f(x_i, t_i) of the step before and x_{i+1}, t_{i+1} of this
    one: all that the two secants at t_i need. What the pipeline gets is left as it is.
    """

    _is_stateful = True

    def __init__(
        self, family: Family, num_train_timesteps: int, on_step: Callable[[], None]
    ) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)  # receives the cache context
        self.secants: dict[Branch, list[Secant]] = {}
        self.evaluations = 0  # rows that the network evaluated
        self.dtype = ""
        self._family, self._num_train_timesteps = family, num_train_timesteps
        self._on_step = on_step
        self._read: CallReader | None = None
        self._before: dict[str | None, tuple[Call, torch.Tensor]] = {}

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The network's own output; the measuring happens beside it."""
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        call = self._read(args, kwargs)
        context = self.state_manager._context
        name = context.name if context else None
        branches = self._family.branches(name)
        if name is None and None in self._before:
            self._refuse_repeated(self._before[None][0], call)
        if not self._before or name == next(iter(self._before)):
            self._on_step()  # the first context to be called marks the steps
        output = self.fn_ref.original_forward(*args, **kwargs)
        self.evaluations += call.rows
        self.dtype = dtype_name(call.latents.dtype)
        if name in self._before:
            self._measure(*self._before[name], call, branches)
        # Copies: the pipeline may write into its latents and into the output.
        latents = call.arguments[self._family.latents].detach().clone()
        kept = self._read((), {**call.arguments, self._family.latents: latents})
        self._before[name] = (kept, output[0].detach().clone())
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the last step; diffusers calls this at the end of a pipeline call."""
        self._before = {}
        self.state_manager.reset()
        return module

    def _refuse_repeated(self, before: Call, now: Call) -> None:
        """Raise ValueError where a call without a context is the same step's second."""
        same_time = before.tau(self._num_train_timesteps).equal(now.tau(self._num_train_timesteps))
        if same_time and before.latents.equal(now.latents):
            raise ValueError(unnamed_branches())

    def _measure(
        self, before: Call, output: torch.Tensor, now: Call, branches: tuple[Branch, ...]
    ) -> None:
        family = self._family
        tau, next_tau = (call.tau(self._num_train_timesteps) for call in (before, now))
        moved_x = self._evaluate(before, family.latents, now)
        moved_t = self._evaluate(before, family.timestep, now)
        step = row_rms(now.latents.float() - before.latents.float())
        a_x = row_rms(moved_x.float() - output.float()) / step
        a_t = row_rms(moved_t.float() - output.float()) / (next_tau - tau).abs()
        blocks = (values.chunk(len(branches)) for values in (tau, next_tau, a_x, a_t))
        for branch, *values in zip(branches, *blocks, strict=True):
            self.secants.setdefault(branch, []).append(Secant(*values))

    def _evaluate(self, before: Call, argument: str, now: Call) -> torch.Tensor:
        """The output of the step before, had one of its arguments been this step's."""
        moved = {**before.arguments, argument: now.arguments[argument]}
        self.evaluations += before.rows
        output: torch.Tensor = self.fn_ref.original_forward(**moved)[0]
        return output.detach()
