"""Denoising and decoding one batch of clips: any sampler, any number of steps, any rival."""

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
    Pass,
    make_loop,
)
from pipeline.models.families.base import ModelFamily
from pipeline.models.families.wan import WAN
from pipeline.models.samplers import make_scheduler
from pipeline.requests.sample_request import SampleRequest

CONVERGED = "converged"
"""Name of the sampler of converged runs, where a sampler's name is asked for."""


@dataclass(frozen=True)
class DenoisingRun:
    """One way to denoise.

    Attributes:
        sampler: As `pipeline.models.samplers` names it, or `CONVERGED`.
        steps: Of the sampler.
        rival: What skips network evaluations, if anything.
    """

    sampler: str
    steps: int
    rival: Baseline | None = None


@dataclass(frozen=True)
class ClipBatch:
    """Clips that are made in one call; their texts are encoded once, for all runs.

    Attributes:
        bench: The model.
        requests: One per clip, in the model's own settings.
        loop: The denoising loop over them.
        saved: Configuration of the scheduler that came with the weights.
    """

    bench: Bench
    requests: tuple[SampleRequest, ...]
    loop: DenoisingLoop
    saved: Mapping[str, Any]

    def denoise(self, run: DenoisingRun) -> Pass:
        """Latents, decisions and seconds of one run; the pipeline is left without a cache.

        Raises:
            UnsupportedError: The rival cannot run here.
        """
        pipe, family = self.loop.pipe, self.bench.model.spec.family
        if run.sampler == CONVERGED:
            pipe.scheduler = converged_scheduler(self.requests[0].sampler, family, self.saved)
        else:
            pipe.scheduler = make_scheduler(run.sampler, family, self.saved)
        loop = self.loop.shorter(run.steps)
        if run.rival is None:
            return loop.run(Arm("uncached"))
        with run.rival.applied(pipe) as decisions:
            done = loop.run(Arm(run.rival.name))
            made, work = decisions(), nfe_of(decisions)
        return dataclasses.replace(done, decisions=made, work=work)

    def decode(self, latents: torch.Tensor) -> list[torch.Tensor]:
        """Frames of latents, per clip of shape [frames, 3, height, width] in 0..1.

        The pipeline decodes them itself, at the end of a call that has no steps: so every family's
        own scaling and unpacking are at work.
        """
        pipe = self.loop.pipe
        before = pipe.scheduler
        frames = []
        try:
            for index, latent in enumerate(latents):  # one by one: decoding is what fills a GPU
                one = self.loop.take(index, 1)
                pipe.scheduler = _NoSteps(before.config)
                made = pipe(
                    **one.settings,
                    **one.embeddings,
                    num_inference_steps=1,
                    latents=latent[None],
                    generator=[torch.Generator().manual_seed(one.seeds[0])],
                    output_type="pt",
                ).frames
                frames.append(made[0].float())
        finally:
            pipe.scheduler = before
        return frames


def make_batches(
    bench: Bench, clips: Sequence[ClipSpec], rows: int, saved: Mapping[str, Any]
) -> list[ClipBatch]:
    """Cut clips into batches and encode their texts."""
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
    """The scheduler of converged runs of a model.

    Heun's method for Wan: second order, and, unlike UniPC and DPM-Solver++ in diffusers, it tells
    the network its true time; theirs is cut to a whole thousandth, an error that no number of steps
    removes. The pipelines of the other families only take their own sampler.
    """
    if family != WAN:
        return make_scheduler(sampler, family, saved)
    import diffusers

    shift = sampler.partition("/")[2]
    return diffusers.FlowMatchHeunDiscreteScheduler(shift=float(shift) if shift else 1.0)


class _NoSteps:
    """A scheduler whose run is over before it begins."""

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
        """Take what every pipeline gives, and have no steps."""

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Nothing begins."""

    def step(self) -> None:
        """Looked at by pipelines for the arguments it takes, never called."""
        raise RuntimeError("a run without steps has made one")
