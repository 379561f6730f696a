"""What plans are made from in `promise`: profiles of a few clips, priors, and their probes."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from jobs.benchmarks.baselines.own import AnySenCache
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.profiles.plan_errors import plan_under, relative_error
from jobs.benchmarks.profiles.recorded_runs import record
from jobs.benchmarks.quality.arms import PAPER, BaselineSetup
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from jobs.benchmarks.quality.points import Tuner
from pipeline.errors import UserError
from pipeline.models.registry import MODELS, shipped_folder
from sencache import SenCacheConfig, SensitivityProfile
from sencache.profiles.metadata import ProfileMetadata, sampler_facts
from sencache.profiles.noise_levels import prediction_of
from sencache.profiles.own_clips import PRIOR_CLIPS, Probe, profile_from_clips
from sencache.profiles.prior import prior_profile
from sencache.schedules.levels import promised_error, scale_correction

PROBE_ERROR = 0.02
"""Error that the plan of the probe is made for."""


@dataclass(frozen=True)
class PlanSource:
    """What plans are made from.

    Attributes:
        name: In tables.
        profile: The profile.
        probed: The same with the error scale that a probe gave; None without a probe.
    """

    name: str
    profile: SensitivityProfile
    probed: SensitivityProfile | None = None


@dataclass(frozen=True)
class Setting:
    """One sampler and number of steps, with the clips to measure and the clips to plan from.

    Attributes:
        bench: The model.
        sampler: Name as in `pipeline.models.samplers`.
        steps: Of the sampler.
        measured: Clips to measure, which no profile has seen.
        own: Clips that a run would make first.
        first: The first of these alone.
    """

    bench: Bench
    sampler: str
    steps: int
    measured: Sequence[ClipBatch]
    own: Sequence[ClipBatch]
    first: Sequence[ClipBatch]


def plan_sources(setting: Setting, own: Sequence[int], kinds: Collection[str]) -> list[PlanSource]:
    """What the plans of a setting are made from.

    Args:
        setting: The setting.
        own: Numbers of own clips.
        kinds: What to plan from: "shipped" (the embedded model's profile), "prior", "alone" (own
            clips) or "blend" (own clips and the prior).
    """
    bench = setting.bench
    prior = prior_profile(prediction_of(bench.pipe.scheduler))
    runs = [record(batch, setting.sampler, setting.steps) for batch in setting.own]
    clips = [clip for run in runs for clip in run.drifts()]
    first = runs[0].latents[:1]
    sources = []
    if "shipped" in kinds:
        file = shipped_folder(MODELS["demo"]) / MODELS["demo"].profile
        sources.append(PlanSource("shipped profile", SensitivityProfile.load(file)))
    if "prior" in kinds:
        probe = _probe(setting, prior, first)
        factor = scale_correction(probe.measured, probe.predicted)
        corrected = float(f"{prior.error_scale * factor:.4g}")
        probed = dataclasses.replace(prior, error_scale=corrected)
        sources.append(PlanSource("prior alone", prior, probed))
    metadata = run_metadata(bench, setting.steps)
    for count in own:
        few = clips[:count]
        for kind, what, weight in (("alone", "alone", 0.0), ("blend", "and prior", PRIOR_CLIPS)):
            if kind not in kinds:
                continue
            profile = profile_from_clips(few, prior, metadata, prior_clips=weight)
            probe = _probe(setting, profile, first)
            with_probe = [dataclasses.replace(few[0], probe=probe), *few[1:]]
            probed = profile_from_clips(with_probe, prior, metadata, prior_clips=weight)
            sources.append(PlanSource(f"{count} clips {what}", profile, probed))
    return sources


def _probe(setting: Setting, profile: SensitivityProfile, whole: torch.Tensor) -> Probe:
    """The cached twin of the first own clip, by a plan of a fixed promised error."""
    config = SenCacheConfig(policy="planned", max_error=PROBE_ERROR)
    run = DenoisingRun(setting.sampler, setting.steps, AnySenCache(config, profile))
    (batch,) = setting.first
    made = batch.denoise(run)
    nfe = int(made.nfe[0])
    plan = plan_under(setting.bench, profile, setting.sampler, setting.steps, nfe)
    error = relative_error([made.latents.cpu()], [whole])
    return Probe(nfe, promised_error(plan, profile), error)


def paper_rule(
    setting: Setting, profile: SensitivityProfile, nfe: int
) -> tuple[list[torch.Tensor], float]:
    """Latents and mean evaluations of the paper's rule, tuned on the own clips."""
    setup = BaselineSetup(setting.bench.pipe, profile, setting.steps, lambda *_: None)
    point = Tuner(setup, setting.sampler, setting.own).point(PAPER, nfe)
    if point.run is None:
        raise UserError(f"the paper's rule at {nfe}: {point.problem}")
    run: DenoisingRun = point.run
    made = [batch.denoise(run) for batch in setting.measured]
    return [each.latents for each in made], statistics.fmean(n for each in made for n in each.nfe)


def run_metadata(bench: Bench, steps: int) -> ProfileMetadata:
    """Return the metadata of a profile from the clips of a run of so many steps."""
    request, model = bench.template, bench.model
    return ProfileMetadata(
        model=model.spec.name,
        revision=model.revision,
        family=model.spec.family.name,
        **sampler_facts(bench.pipe.scheduler),
        num_inference_steps=steps,
        guidance_scale=request.guidance_scale,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        dtype="float32",
        num_clips=0,
        network_evaluations=0,
    )
