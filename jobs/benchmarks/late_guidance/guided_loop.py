"""The denoising loop of Wan with guidance, in which each branch can be left out of a step.

Does what `WanPipeline` of diffusers 0.42.1 does with one network; a test compares the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.late_guidance.branch_plans import BranchPlan
from jobs.benchmarks.quality.denoising import ClipBatch
from pipeline.engine.noise import generator
from pipeline.models.samplers import make_scheduler
from sencache.calibration.outputs import OutputRecorder
from sencache.extension import Forecast

Watch = Callable[[int, float, torch.Tensor, torch.Tensor], None]
"""Called at each computed step with its index, tau, and the outputs c and u."""


@dataclass(frozen=True)
class GuidedRun:
    """What a run made.

    Attributes:
        latents: One item per clip.
        evaluations: Of the network per clip, both branches counted.
    """

    latents: torch.Tensor
    evaluations: int


@torch.no_grad()
def run_guided(
    batch: ClipBatch, sampler: str, steps: int, plan: BranchPlan | None, watch: Watch | None = None
) -> GuidedRun:
    """Denoise a batch.

    Args:
        batch: The clips.
        sampler: Name as in `pipeline.models.samplers`.
        steps: Of the sampler.
        plan: What both branches do; None evaluates both at every step.
        watch: Sees the outputs; only of runs without a plan.
    """
    loop, pipe = batch.loop, batch.loop.pipe
    scheduler = make_scheduler(sampler, batch.bench.model.spec.family, batch.saved)
    scheduler.set_timesteps(steps, device=loop.device)
    scheduler.set_begin_index(0)
    unit = float(scheduler.config["num_train_timesteps"])
    first = batch.requests[0]
    latents = pipe.prepare_latents(
        len(loop.seeds),
        pipe.transformer.config.in_channels,
        first.height,
        first.width,
        first.num_frames,
        torch.float32,
        loop.device,
        [generator(seed) for seed in loop.seeds],
        None,
    )
    network = _Network(pipe.transformer, loop.embeddings)
    memory = _Memory(plan, first.guidance_scale)
    for step, time in enumerate(scheduler.timesteps):
        if memory.computes(step):
            cond = network("prompt_embeds", latents, time)
            uncond = None
            if memory.guides(step):
                uncond = network("negative_prompt_embeds", latents, time)
                if watch is not None:
                    watch(step, float(time) / unit, cond, uncond)
            memory.add(step, cond, uncond)
        latents = scheduler.step(memory.output(step), time, latents, return_dict=False)[0]
    return GuidedRun(latents, network.calls)


class BranchRecorder:
    """Drifts of the guided output and of the difference of the branches, over uncached runs."""

    def __init__(self, scale: float) -> None:
        """Begin without outputs; `scale` is that of guidance."""
        self.outputs, self.difference = OutputRecorder(), OutputRecorder()
        self._scale = scale

    def __call__(self, step: int, tau: float, cond: torch.Tensor, uncond: torch.Tensor) -> None:
        """Keep the outputs of a step."""
        self.outputs.add(step, tau, ("cond", "uncond"), torch.cat([cond, uncond]), self._scale)
        self.difference.add(step, tau, ("cond",), cond - uncond, None)


class _Network:
    """The network, counting its calls."""

    def __init__(self, network: Any, embeddings: Mapping[str, torch.Tensor]) -> None:
        self._network, self._embeddings = network, embeddings
        self.calls = 0

    def __call__(self, texts: str, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        made: torch.Tensor = self._network(
            hidden_states=latents.to(self._network.dtype),
            timestep=time.expand(latents.shape[0]),
            encoder_hidden_states=self._embeddings[texts].to(self._network.dtype),
            return_dict=False,
        )[0]
        return made


class _Memory:
    """Outputs of computed steps, and what the sampler gets."""

    def __init__(self, plan: BranchPlan | None, scale: float) -> None:
        self._plan, self._scale = plan, scale
        self._guided: dict[int, torch.Tensor] = {}
        self._differences: dict[int, torch.Tensor] = {}

    def computes(self, step: int) -> bool:
        """Whether the conditional branch is evaluated."""
        return self._plan is None or step in self._plan.outputs.computed

    def guides(self, step: int) -> bool:
        """Whether the unconditional branch is evaluated at a step that computes."""
        if self._plan is None:
            return True
        return self._plan.outputs.computed.index(step) in self._plan.guidance.computed

    def add(self, step: int, cond: torch.Tensor, uncond: torch.Tensor | None) -> None:
        """Keep the guided output of a computed step."""
        if self._plan is None:
            assert uncond is not None  # noqa: S101 - both branches run
            self._guided[step] = uncond + self._scale * (cond - uncond)
            return
        if uncond is None and self._plan.off:
            self._guided[step] = cond
            return
        place = self._plan.outputs.computed.index(step)
        if uncond is not None:
            self._differences[place] = cond - uncond
        forecast = self._plan.guidance.forecasts.get(place)
        difference = _sum(forecast, self._differences) if forecast else self._differences[place]
        self._guided[step] = cond + (self._scale - 1) * difference

    def output(self, step: int) -> torch.Tensor:
        """What the sampler gets."""
        forecast = self._plan.outputs.forecasts.get(step) if self._plan is not None else None
        return self._guided[step] if forecast is None else _sum(forecast, self._guided)


def _sum(forecast: Forecast, outputs: Mapping[int, torch.Tensor]) -> torch.Tensor:
    total = torch.zeros_like(outputs[forecast.anchors[0]], dtype=torch.float32)
    for anchor, weight in zip(forecast.anchors, forecast.weights, strict=True):
        total.add_(outputs[anchor], alpha=weight)
    return total
