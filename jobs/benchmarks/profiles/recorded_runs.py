"""Uncached runs of a flow model, recorded step by step.

They give the drift of each clip and, because a flow model's latents and outputs determine clip and
noise, also what a model of v or epsilon prediction would have given for the same latents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from sencache import Family, family_of, networks_of
from sencache.extension import Branch, CallReader, attach, detach, row_rms
from sencache.profiles.own_clips import ClipDrift

Array = np.ndarray[Any, np.dtype[np.float64]]

HOOK_NAME = "recorded-run"


@dataclass(frozen=True)
class DiffusionForm:
    """What a model would predict for a flow model's latents x, with x = (1 - s) clip + s noise.

    The diffusion model's latents z = x / norm have alpha^2 + sigma^2 = 1.

    Attributes:
        prediction: "v" or "epsilon".
    """

    prediction: str

    def output(self, x: torch.Tensor, flow: torch.Tensor, s: float) -> torch.Tensor:
        """Its output where the flow model gave `flow`, noise less clip, at the latents x."""
        clip, noise = x - s * flow, x + (1 - s) * flow
        if self.prediction == "epsilon":
            return noise
        return ((1 - s) * noise - s * clip) / norm(s)

    def gain(self, s: float) -> float:
        """Gain of its errors, divided by that of the flow model's.

        Without a network that answers to them, a deterministic sampler keeps an error of z (v), or
        of z / alpha (epsilon), until the end. In x the same error is smaller by this factor.
        """
        return 1 - s if self.prediction == "epsilon" else norm(s)


def norm(s: float) -> float:
    """Ratio of a flow model's latents to a diffusion model's at the share of noise s."""
    return math.hypot(1 - s, s)


@dataclass(frozen=True)
class BranchStep:
    """One branch of all clips at one step.

    Attributes:
        tau: Time.
        latents: Before the step, shape [clips, ...].
        output: Of the network, likewise.
        at_next_latents: The output at this step's time for the diffusion model's next latents.
        at_next_time: The output at the next step's time for the diffusion model's latents here.
    """

    tau: float
    latents: torch.Tensor
    output: torch.Tensor
    at_next_latents: torch.Tensor | None = None
    at_next_time: torch.Tensor | None = None


@dataclass(frozen=True)
class RecordedRun:
    """Uncached clips of one call.

    Attributes:
        steps: Per branch, in the order of sampling.
        guidance_scale: Of the run.
        latents: The final ones, shape [clips, ...].
    """

    steps: Mapping[Branch, Sequence[BranchStep]]
    guidance_scale: float
    latents: torch.Tensor

    @property
    def taus(self) -> list[float]:
        """Time of each step, shape [T]."""
        return [step.tau for step in self.steps["cond"]]

    def guided(self) -> torch.Tensor:
        """The outputs that the sampler saw, shape [T, clips, elements], float64."""
        outputs = torch.stack([step.output.flatten(1) for step in self.steps["cond"]]).double()
        if "uncond" in self.steps:
            free = torch.stack([step.output.flatten(1) for step in self.steps["uncond"]]).double()
            outputs = free + self.guidance_scale * (outputs - free)
        return outputs

    def in_form(self, form: DiffusionForm) -> torch.Tensor:
        """What a diffusion model would have given, shape [T, clips, elements]."""
        return torch.stack(
            [
                form.output(step.latents.flatten(1).double(), flow, step.tau)
                for step, flow in zip(self.steps["cond"], self.guided(), strict=True)
            ]
        )

    def drifts(self) -> list[ClipDrift]:
        """What each clip shows of its model."""
        evaluations = len(self.taus) * len(self.steps)
        return [
            ClipDrift.of_outputs(
                self.taus,
                self.taus,
                distances(outputs),
                latents.double().square().mean().sqrt().item(),
                evaluations,
            )
            for outputs, latents in zip(self.guided().unbind(1), self.latents, strict=True)
        ]

    def sensitivities(self, form: DiffusionForm, branch: Branch) -> tuple[Array, Array]:
        """a_x and a_t of a diffusion model at every step but the last, shape [T - 1, clips]."""
        a_x, a_t = [], []
        steps = self.steps[branch]
        for here, then in itertools.pairwise(steps):
            moved, later = here.at_next_latents, here.at_next_time
            assert moved is not None  # noqa: S101 - all steps but the last have both
            assert later is not None  # noqa: S101
            z, z_next = here.latents / norm(here.tau), then.latents / norm(then.tau)
            before = form.output(here.latents, here.output, here.tau)
            after_x = form.output(z_next * norm(here.tau), moved, here.tau)
            after_t = form.output(z * norm(then.tau), later, then.tau)
            a_x.append(row_rms(after_x - before) / row_rms(z_next - z))
            a_t.append(row_rms(after_t - before) / abs(then.tau - here.tau))
        return torch.stack(a_x).double().numpy(), torch.stack(a_t).double().numpy()


def distances(outputs: torch.Tensor) -> Array:
    """Mean squared differences of all pairs of steps; outputs have shape [T, elements]."""
    found: Array = (torch.cdist(outputs, outputs).square() / outputs.shape[1]).numpy()
    return found


def record(batch: ClipBatch, sampler: str, steps: int, *, secants: bool = False) -> RecordedRun:
    """Sample clips without a cache and record every step.

    Args:
        batch: The clips, of a flow model with one network.
        sampler: Name as in `pipeline.models.samplers`.
        steps: Of the sampler.
        secants: Whether to evaluate the network twice more per step and branch, for
            :meth:`RecordedRun.sensitivities`.
    """
    (network,) = networks_of(batch.loop.pipe).values()
    unit = int(batch.loop.pipe.scheduler.config["num_train_timesteps"])
    hook = _RunRecorder(family_of(network), unit, secants)
    attach(network, hook, HOOK_NAME)
    try:
        latents = batch.denoise(DenoisingRun(sampler, steps)).latents
    finally:
        detach(network, HOOK_NAME)
    return RecordedRun(hook.steps, batch.requests[0].guidance_scale, latents.float().cpu())


class _RunRecorder(ModelHook):
    """Records a network's inputs and outputs, and its answers to half a step."""

    _is_stateful = True

    def __init__(self, family: Family, unit: int, secants: bool) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._family, self._unit, self._secants = family, unit, secants
        self._arguments: dict[Branch, Mapping[str, Any]] = {}
        self.steps: dict[Branch, list[BranchStep]] = {}

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the network's own output."""
        forward = self.fn_ref.original_forward
        call = CallReader(self._family, module, forward)(args, kwargs)
        output = forward(*args, **kwargs)
        context = self.state_manager._context
        (branch,) = self._family.branches(context.name if context else None)
        done = self.steps.setdefault(branch, [])
        latents, tau = call.latents.float().cpu().clone(), call.tau(self._unit)[0].item()
        if self._secants and done:
            here, before = done[-1], self._arguments[branch]
            ratio = norm(here.tau) / norm(tau)
            x, t = self._family.latents, self._family.timestep
            moved = forward(**{**before, x: call.arguments[x] * ratio})[0]
            later = forward(**{**before, x: before[x] / ratio, t: call.arguments[t]})[0]
            done[-1] = BranchStep(
                here.tau, here.latents, here.output, moved.float().cpu(), later.float().cpu()
            )
        done.append(BranchStep(tau, latents, output[0].detach().float().cpu().clone()))
        # Copies: the pipeline may write into its latents.
        kept = call.arguments[self._family.latents].detach().clone()
        self._arguments[branch] = {**call.arguments, self._family.latents: kept}
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Reset the context; recorded steps stay."""
        self.state_manager.reset()
        return module
