"""Denoises and decodes one batch of clips with any sampler, number of steps and baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.baselines import Baseline, nfe_of
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.splits import ClipSpec
from jobs.benchmarks.sampling.denoising_loop import (
    Arm,
    DenoisingLoop,
    LoopRun,
    make_loop,
)
from pipeline.engine.noise import generator
from pipeline.models.families.base import ModelFamily
from pipeline.models.families.wan import WAN
from pipeline.models.samplers import make_scheduler
from pipeline.requests.sample_request import SampleRequest

CONVERGED = "converged"
"""The name that stands for the sampler of converged runs."""


@dataclass(frozen=True)
class DenoisingRun:
    """One way to denoise.

    Attributes:
        sampler: Name as in `pipeline.models.samplers`, or `CONVERGED`.
        steps: Steps of the sampler.
        baseline: The method that skips network evaluations, if any.
    """

    sampler: str
    steps: int
    baseline: Baseline | None = None


@dataclass(frozen=True)
class ClipBatch:
    """Clips that are made in one call. Their texts are encoded once for all runs.

    Attributes:
        bench: The model.
        requests: One per clip, in the model's own settings.
        loop: The denoising loop over them.
        saved: Configuration of the scheduler that belongs to the weights.
    """

    bench: Bench
    requests: tuple[SampleRequest, ...]
    loop: DenoisingLoop
    saved: Mapping[str, Any]

    def denoise(self, run: DenoisingRun) -> LoopRun:
        """Run once and return latents, decisions and seconds; remove the cache afterwards.

        Raises:
            UnsupportedError: The baseline cannot run here.
        """
        pipe, family = self.loop.pipe, self.bench.model.spec.family
        if run.sampler == CONVERGED:
            pipe.scheduler = converged_scheduler(self.requests[0].sampler, family, self.saved)
        else:
            pipe.scheduler = make_scheduler(run.sampler, family, self.saved)
        loop = self.loop.shorter(run.steps)
        if run.baseline is None:
            return loop.run(Arm("uncached"))
        with run.baseline.applied(pipe) as decisions:
            done = loop.run(Arm(run.baseline.name))
            made, measured_nfe = decisions(), nfe_of(decisions)
        return dataclasses.replace(done, decisions=made, measured_nfe=measured_nfe)

    def decode(self, latents: torch.Tensor) -> list[torch.Tensor]:
        """Decode latents to one tensor per clip, of shape [frames, 3, height, width] in 0..1.

        The pipeline decodes them in a call without steps, so scaling and unpacking are those of the
        family.
        """
        pipe = self.loop.pipe
        before = pipe.scheduler
        frames = []
        try:
            for index, latent in enumerate(latents):  # one by one: decoding needs the most memory
                one = self.loop.take(index, 1)
                pipe.scheduler = _NoSteps(before.config)
                made = pipe(
                    **one.settings,
                    **one.embeddings,
                    num_inference_steps=1,
                    latents=latent[None],
                    generator=[generator(one.seeds[0])],
                    output_type="pt",
                ).frames
                frames.append(made[0].float())
        finally:
            pipe.scheduler = before
        return frames


def make_batches(
    bench: Bench, clips: Sequence[ClipSpec], rows: int, saved: Mapping[str, Any]
) -> list[ClipBatch]:
    """Divide clips into batches and encode their texts."""
    batches = []
    for start in range(0, len(clips), rows):
        requests = tuple(
            dataclasses.replace(bench.template, prompt=clip.caption, seed=clip.seed)
            for clip in clips[start : start + rows]
        )
        loop = make_loop(bench.model.spec, bench.pipe, requests)
        batches.append(ClipBatch(bench, requests, loop, saved))
    return batches


def converged_scheduler(sampler: str, family: ModelFamily, saved: Mapping[str, Any]) -> Any:
    """Return the scheduler of converged runs of a model.

    For Wan it is Heun's method: it is of second order and gives the network the exact time. UniPC
    and DPM-Solver++ of diffusers cut the time to whole thousandths, an error that more steps do not
    remove. The pipelines of the other families accept their own sampler only.
    """
    if family != WAN:
        return make_scheduler(sampler, family, saved)
    import diffusers

    shift = sampler.partition("/")[2]
    return diffusers.FlowMatchHeunDiscreteScheduler(shift=float(shift) if shift else 1.0)


class _NoSteps:
    """A scheduler without steps."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, config: Any) -> None:
        self.config = config
        self.timesteps = torch.empty(0)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        """Accept the arguments of every pipeline and set no steps."""

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Do nothing."""

    def step(self) -> None:
        """Never called; pipelines inspect its signature."""
        raise RuntimeError("a scheduler without steps was asked for one")
