"""`prior`: makes the profiles that the library ships for models that nobody has measured.

The prior of flow matching is the embedded model's own profile over its share of noise. Those of v
and epsilon prediction are the same model's, seen through what a diffusion model would have
predicted for the same latents. The error scale is measured on cached runs of the same clips.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from jobs.benchmarks.profiles.bench import Bench
    from jobs.benchmarks.profiles.recorded_runs import RecordedRun
    from jobs.benchmarks.quality.denoising import ClipBatch
    from sencache import SensitivityProfile
    from sencache.profiles.metadata import SensitivityPoint

HELP = "makes the library's priors from the embedded model"
FOLDER = Path(__file__).parents[3] / "sencache" / "profiles" / "priors"
PROBED = (25, 17, 13)
"""Evaluations of the cached runs that the error scale is measured on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--clips", type=int, default=16, help="calibration clips")
    parser.add_argument(
        "--write",
        action="store_true",
        help="replace the priors in the checkout, and the error scale of the embedded model",
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, and write if wanted."""
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.profiles.recorded_runs import record
    from jobs.benchmarks.quality.denoising import make_batches
    from jobs.benchmarks.quality.splits import CALIBRATION, captions_of, split_clips
    from pipeline.models.registry import MODELS, shipped_folder
    from sencache import SensitivityProfile

    bench = load_bench("demo", "", "auto")
    template = bench.template
    file = shipped_folder(MODELS["demo"]) / MODELS["demo"].profile
    shipped = SensitivityProfile.load(file)
    clips = split_clips(captions_of("demo", "", CALIBRATION), CALIBRATION, options.clips)
    batches = make_batches(bench, clips, bench.model.spec.batch_rows, bench.pipe.scheduler.config)
    console.print(f"recording {len(clips)} clips")
    runs = [
        record(batch, template.sampler, template.num_inference_steps, secants=True)
        for batch in batches
    ]
    rms = math.sqrt(sum(run.latents.double().square().mean().item() for run in runs) / len(runs))
    console.print("measuring the error scale")
    scale, probes = error_scale(bench, batches, shipped)
    metadata = dataclasses.replace(shipped.metadata, latents_rms=float(f"{rms:.4g}"))
    shipped = dataclasses.replace(shipped, metadata=metadata, error_scale=scale)
    profiles = {"flow": _prior_of(shipped, "flow", _basis(bench, runs, probes))}
    for prediction in ("v", "epsilon"):
        profiles[prediction] = _diffusion_prior(shipped, prediction, bench, runs, probes)
    if options.write:
        shipped.save(file)
        for prediction, profile in profiles.items():
            profile.save(FOLDER / f"{prediction}.json")
    console.print(f"error scale {scale:g}, rms of the final latents {rms:.4g}; probes {probes}")
    return {
        "error_scale": scale,
        "latents_rms": rms,
        "probes": probes,
        "hashes": {"demo": shipped.hash, **{name: p.hash for name, p in profiles.items()}},
    }


def error_scale(
    bench: Bench, batches: Sequence[ClipBatch], profile: SensitivityProfile
) -> tuple[float, dict[str, float]]:
    """Measured relative error of cached runs, divided by the error that the drift predicts.

    Args:
        bench: The model.
        batches: Clips.
        profile: Its own.

    Returns:
        The geometric mean, and the ratio by sampler and number of evaluations.
    """
    from jobs.benchmarks.profiles.plan_errors import cached_latents, plan_under, relative_error
    from jobs.benchmarks.quality.denoising import DenoisingRun
    from pipeline.models.samplers import EULER, UNIPC

    steps = bench.template.num_inference_steps
    shift = bench.template.sampler.partition("/")[2]
    ratios: dict[str, float] = {}
    for name in (EULER, UNIPC):
        sampler = f"{name}/{shift}"
        whole = [batch.denoise(DenoisingRun(sampler, steps)).latents for batch in batches]
        for nfe in PROBED:
            plan = plan_under(bench, profile, sampler, steps, nfe)
            made = cached_latents(batches, sampler, steps, profile, nfe)
            error = relative_error(made, whole)
            ratios[f"{name} {nfe}"] = float(f"{error / plan.error:.4g}")
    logs = [math.log(ratio) for ratio in ratios.values()]
    return float(f"{math.exp(sum(logs) / len(logs)):.4g}"), ratios


def _prior_of(
    profile: SensitivityProfile, prediction: str, basis: Mapping[str, Any]
) -> SensitivityProfile:
    """A profile as a prior: over the share of noise, for any model of a prediction."""
    metadata = dataclasses.replace(
        profile.metadata,
        model=f"prior/{prediction}",
        revision="",
        family="",
        architecture="",
        inputs="prior",
        time="sigma",
        prediction=prediction,
        basis=basis,
    )
    return dataclasses.replace(profile, metadata=metadata)


def _diffusion_prior(
    flow: SensitivityProfile,
    prediction: str,
    bench: Bench,
    runs: Sequence[RecordedRun],
    probes: Mapping[str, float],
) -> SensitivityProfile:
    """The prior of v or epsilon prediction, from recorded runs of the flow model."""
    import numpy as np

    from jobs.benchmarks.profiles.recorded_runs import DiffusionForm, distances
    from sencache.schedules.drift import OutputDrift

    form, taus = DiffusionForm(prediction), runs[0].taus
    each = [distances(clip) for run in runs for clip in run.in_form(form).unbind(1)]
    assert flow.drift is not None  # noqa: S101 - the embedded model's profile has one
    gains = [
        gain * form.gain(tau) for gain, tau in zip(flow.drift.at(taus).gain, taus, strict=True)
    ]
    branches = {}
    for branch in flow.branches:
        parts = [run.sensitivities(form, branch) for run in runs]
        a_x, a_t = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
        branches[branch] = _points(taus, a_x, a_t)
    profile = dataclasses.replace(
        flow,
        branches=branches,
        drift=OutputDrift.of_outputs(taus, np.mean(each, axis=0), gains),
        metadata=dataclasses.replace(
            flow.metadata,
            num_clips=len(each),
            network_evaluations=len(each) * len(flow.branches) * (3 * len(taus) - 2),
        ),
    )
    return _prior_of(profile, prediction, _basis(bench, runs, probes))


def _points(taus: Sequence[float], a_x: Any, a_t: Any) -> tuple[SensitivityPoint, ...]:
    from sencache.profiles.metadata import SensitivityPoint

    columns = zip(taus, a_x.mean(1), a_x.std(1), a_t.mean(1), a_t.std(1), strict=False)
    return tuple(SensitivityPoint(*(float(f"{v:.6g}") for v in column)) for column in columns)


def _basis(
    bench: Bench, runs: Sequence[RecordedRun], probes: Mapping[str, float]
) -> dict[str, Any]:
    """What a prior rests on."""
    import numpy as np

    clips = [drift for run in runs for drift in run.drifts()]
    changes = np.sqrt([np.diag(clip.distances, 1) for clip in clips])
    spread = (changes.std(0) / changes.mean(0)).mean()
    return {
        "models": [f"{bench.model.spec.name}@{bench.model.revision}"],
        "clips": len(clips),
        "steps": len(runs[0].taus),
        "sampler": bench.template.sampler,
        "spread_of_drift_over_clips": float(f"{spread:.3g}"),
        "error_ratios": dict(probes),
    }
