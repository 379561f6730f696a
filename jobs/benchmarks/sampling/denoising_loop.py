"""The denoising loop alone: a call of a diffusers pipeline with encoded texts and without decoding.

A step cache saves time in this loop only; text encoding and decoding would hide its own cost.
Written for the pipelines of diffusers 0.42.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.engine.caching import cache_struct, cached
from pipeline.engine.noise import generator
from pipeline.models.call import sampling_arguments, text_arguments
from pipeline.models.samplers import make_scheduler
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest
from sencache import SenCacheConfig, SensitivityProfile, networks_of


@dataclass(frozen=True)
class Arm:
    """One way to run the loop.

    Attributes:
        name: Name in tables.
        config: Settings of the cache; None runs the network without any hook.
        profile: Sensitivities, if steps may be reused.
    """

    name: str
    config: SenCacheConfig | None = None
    profile: SensitivityProfile | None = None


@dataclass(frozen=True)
class LoopRun:
    """The result of one run of the loop.

    Attributes:
        seconds: Wall time of the pipeline's call; the device is idle before and after.
        decisions: One character per step for each row: C computed, R reused.
        latents: The result of the call, one item per row.
        measured_nfe: Network evaluations of each row, in steps, for methods that compute a part of
            a reused step, such as its first block; None if reused steps are free.
    """

    seconds: float
    decisions: list[str]
    latents: torch.Tensor
    measured_nfe: list[float] | None = None

    @property
    def nfe(self) -> list[float]:
        """Network evaluations of each row, in steps."""
        if self.measured_nfe is not None:
            return self.measured_nfe
        return [float(decisions.count("C")) for decisions in self.decisions]


@dataclass(frozen=True)
class DenoisingLoop:
    """A pipeline and the arguments of its call, without the noise.

    Attributes:
        pipe: A diffusers pipeline with its scheduler, on its device, without progress bar.
        settings: Arguments that all rows share.
        embeddings: Arguments with one item per row.
        seeds: Seed of each row's noise.
        steps: Steps of the sampler.
    """

    pipe: Any
    settings: Mapping[str, Any]
    embeddings: Mapping[str, torch.Tensor]
    seeds: tuple[int, ...]
    steps: int

    @property
    def networks(self) -> list[torch.nn.Module]:
        """The denoising networks, in the order in which they run."""
        return list(networks_of(self.pipe).values())

    @property
    def device(self) -> torch.device:
        """The device of the loop, taken from the embeddings: a pipeline may have no other part."""
        return next(iter(self.embeddings.values())).device

    def take(self, first: int, rows: int) -> DenoisingLoop:
        """Return the same loop over some of its rows."""
        chosen = slice(first, first + rows)
        embeddings = {name: value[chosen] for name, value in self.embeddings.items()}
        return dataclasses.replace(self, embeddings=embeddings, seeds=self.seeds[chosen])

    def shorter(self, steps: int) -> DenoisingLoop:
        """Return the same loop with another number of steps."""
        return dataclasses.replace(self, steps=steps)

    def run(self, arm: Arm) -> LoopRun:
        """Denoise all rows in one call of the pipeline."""
        applied = (
            contextlib.nullcontext()
            if arm.config is None
            else cached(self.pipe, arm.config, arm.profile)
        )
        with applied as handle:
            began = now(self.device)
            latents = self.pipe(
                **self.settings,
                **self.embeddings,
                num_inference_steps=self.steps,
                generator=[generator(seed) for seed in self.seeds],
                output_type="latent",
            ).frames
            seconds = now(self.device) - began
            if handle is None:
                decisions = ["C" * self.steps] * len(self.seeds)
            else:
                structs = [cache_struct(sample, self.steps) for sample in handle.stats()]
                decisions = [struct["decisions"] for struct in structs]
        return LoopRun(seconds, decisions, latents)


def now(device: torch.device) -> float:
    """Return the wall clock in seconds, after waiting for the device to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def make_loop(spec: ModelSpec, pipe: Any, requests: Sequence[SampleRequest]) -> DenoisingLoop:
    """Encode the texts of requests that agree in all other settings.

    Args:
        spec: The model.
        pipe: The result of `load_pipeline`; its scheduler is replaced by that of the requests.
        requests: One per row.
    """
    first = requests[0]
    pipe.scheduler = make_scheduler(first.sampler, spec.family, dict(pipe.scheduler.config))
    given: dict[str, Any] = {
        "max_sequence_length": first.max_sequence_length,
        "device": pipe.device,
    }
    if not spec.pipeline.distilled_guidance:
        given["do_classifier_free_guidance"] = first.guidance_scale > 1.0
    with torch.no_grad():
        encoded = pipe.encode_prompt(**text_arguments(spec, requests), **given)
    names = spec.pipeline.text_embeddings
    embeddings = {n: v for n, v in zip(names, encoded, strict=True) if v is not None}
    settings = sampling_arguments(spec, first)
    steps = settings.pop("num_inference_steps")
    seeds = tuple(request.seed for request in requests)
    return DenoisingLoop(pipe, settings, embeddings, seeds, steps)
