"""The profile that a run of the pipeline measures on its own first clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.profiles.plan_sources import run_metadata
from jobs.benchmarks.quality.denoising import DenoisingRun, make_batches
from jobs.benchmarks.quality.splits import ClipSpec
from sencache import SensitivityProfile
from sencache.extension import recorded_outputs
from sencache.measuring import (
    ClipDrift,
    NoiseLevels,
    prediction_of,
    prior_profile,
    profile_from_clips,
)

OWN_CLIPS = 8
"""First clips: as many as a run of 200 clips makes without a cache."""


def own_profile(
    bench: Bench, sampler: str, steps: int, clips: Sequence[ClipSpec], saved: Mapping[str, Any]
) -> SensitivityProfile:
    """Record uncached clips and blend what they show with the prior, as runs do.

    Args:
        bench: The model.
        sampler: Name as in `pipeline.models.samplers`.
        steps: Of the sampler.
        clips: The first clips; none of them is measured later.
        saved: Configuration of the scheduler that belongs to the weights.
    """
    drifts = []
    for batch in make_batches(bench, clips, 1, saved):
        with recorded_outputs(bench.pipe, bench.template.guidance_scale) as outputs:
            latents = batch.denoise(DenoisingRun(sampler, steps)).latents
        tau, distances = outputs.drift(steps)
        levels = NoiseLevels.of_scheduler(bench.pipe.scheduler)
        rms = latents.double().square().mean().sqrt().item()
        sigma = levels.sigma_at(tau)
        drifts.append(ClipDrift.of_outputs(tau, sigma, distances, rms, outputs.evaluations))
    prior = prior_profile(prediction_of(bench.pipe.scheduler))
    return profile_from_clips(drifts, prior, run_metadata(bench, steps))
