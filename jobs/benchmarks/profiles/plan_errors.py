"""Plans of an exact number of evaluations: what they predict, and what they leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from jobs.benchmarks.baselines.own import Planned
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from pipeline.models.samplers import make_scheduler
from sencache import SenCacheConfig, SensitivityProfile
from sencache.extension import CacheSchedule
from sencache.schedules.levels import plan_of_run


def plan_under(
    bench: Bench, profile: SensitivityProfile, sampler: str, steps: int, nfe: int
) -> CacheSchedule:
    """The plan of a whole run.

    Args:
        bench: The model.
        profile: What the plan is made from.
        sampler: Name as in `pipeline.models.samplers`.
        steps: Of the sampler.
        nfe: Evaluations.
    """
    family = bench.model.spec.family
    scheduler = make_scheduler(sampler, family, bench.pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    return plan_of_run(SenCacheConfig(policy="planned", budget=nfe / steps), profile, scheduler)


def cached_latents(
    batches: Sequence[ClipBatch], sampler: str, steps: int, profile: SensitivityProfile, nfe: int
) -> list[torch.Tensor]:
    """Final latents of planned runs, one tensor per batch."""
    method = Planned(profile).budgeted(nfe, steps)
    return [batch.denoise(DenoisingRun(sampler, steps, method)).latents for batch in batches]


def relative_error(made: Sequence[torch.Tensor], whole: Sequence[torch.Tensor]) -> float:
    """The rms difference over all clips, divided by the rms of the uncached latents."""
    pairs = list(zip(made, whole, strict=True))
    error = sum((a.double() - b.double()).square().sum().item() for a, b in pairs)
    return math.sqrt(error / sum(b.double().square().sum().item() for _, b in pairs))


def per_clip_errors(made: Sequence[torch.Tensor], whole: Sequence[torch.Tensor]) -> list[float]:
    """The relative error of each clip, to four significant digits."""
    return [
        float(f"{relative_error([a], [b]):.4g}")
        for latents, references in zip(made, whole, strict=True)
        for a, b in zip(latents, references, strict=True)
    ]
