"""The whole benchmark: from options to clips, arms and numbers, one sampler after another."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from jobs.benchmarks.baselines import Baseline
from jobs.benchmarks.profiles.bench import Bench, load_bench, with_changes
from jobs.benchmarks.quality.arms import (
    ARMS,
    BASELINES,
    FULL_ARMS,
    PAPER,
    QUICK_ARMS,
    BaselineSetup,
)
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.measure import ReferenceComparison, run_arms
from jobs.benchmarks.quality.points import OperatingPoint, Tuner
from jobs.benchmarks.quality.profiles import profile_for
from jobs.benchmarks.quality.progress_line import show_progress
from jobs.benchmarks.quality.records import paper_of, summary
from jobs.benchmarks.quality.references import ConvergedSteps, ReferenceStore
from jobs.benchmarks.quality.splits import (
    CALIBRATION,
    ClipSpec,
    captions_of,
    prompts_hash,
    split_clips,
)
from jobs.benchmarks.sampling.sampler_names import samplers_for
from pipeline.errors import UserError
from pipeline.scoring.similarity import load_lpips
from pipeline.storage.storage import locate
from sencache import ProfileError, SensitivityProfile

MOST_CLIPS, QUICK_CLIPS = 64, 12


@dataclass(frozen=True)
class QualityPlan:
    """What the options ask for, checked and complete.

    Attributes:
        clips: Clips to measure.
        calibration: Clips to tune on.
        arms: Names of the arms.
        points: Wanted NFE of the main arms, in falling order.
        common: Wanted NFE of all other arms, in falling order.
        samplers: Names as in `pipeline.models.samplers`.
        rows: Clips per call.
        profile: Profile for all samplers; None if one is measured for each.
    """

    clips: list[ClipSpec]
    calibration: list[ClipSpec]
    arms: list[str]
    points: list[int]
    common: list[int]
    samplers: list[str]
    rows: int
    profile: SensitivityProfile | None = None

    def points_of(self, arm: str) -> list[int]:
        """Return the NFE points of an arm."""
        return self.points if arm in QUICK_ARMS else self.common


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure.

    Returns:
        JSON: settings, and per sampler the uncached run and every arm at every point.

    Raises:
        UserError: The options name something that cannot be used.
    """
    bench = load_for(options)
    plan = make_plan(options, bench)
    lpips, why = load_lpips(bench.pipe.device)
    if why:
        console.print(why)
    saved = dict(bench.pipe.scheduler.config)
    store = ReferenceStore(Path(options.cache_dir))
    batches = make_batches(bench, plan.clips, plan.rows, saved)
    calibration = make_batches(bench, plan.calibration, plan.rows, saved)
    converged = ConvergedSteps(options.reference_steps)
    if not options.reference_steps:
        converged = store.steps(calibration[0], console.print)
    comparison = ReferenceComparison(store, converged.steps, lpips)
    return {
        "model": bench.model.spec.name,
        "revision": bench.model.revision,
        "request": _shared(bench),
        "split": options.split,
        "clips": len(plan.clips),
        "prompts_hash": prompts_hash(plan.clips),
        "seeds": [clip.seed for clip in plan.clips],
        "calibration_hash": prompts_hash(plan.calibration),
        "points": plan.points,
        "rows": plan.rows,
        "converged": dataclasses.asdict(converged),
        "lpips": why or "AlexNet",
        "profile": plan.profile.hash if plan.profile else "",
        "samplers": {
            sampler: _measure(bench, sampler, plan, batches, calibration, comparison, console)
            for sampler in plan.samplers
        },
    }


def load_for(options: argparse.Namespace) -> Bench:
    """Load the model of the options, with its settings changed as they say.

    Raises:
        UserError: The model cannot be loaded, or a setting is not possible.
    """
    bench = load_bench(options.model, options.model_path, options.device)
    changes: dict[str, Any] = {}
    if options.steps:
        changes["num_inference_steps"] = options.steps
    if options.size:
        try:
            width, height, frames = (int(part) for part in options.size.split("x"))
        except ValueError:
            raise UserError(f"--size {options.size}: write it as 832x480x81") from None
        spec = bench.model.spec
        if problem := spec.sizes.problem(width, height, frames):
            raise UserError(f"--size {options.size}: {problem}")
        changes |= {"width": width, "height": height, "num_frames": frames}
    if options.shift:
        changes["shift"] = options.shift
    return dataclasses.replace(bench, template=with_changes(bench.template, changes))


def make_plan(options: argparse.Namespace, bench: Bench) -> QualityPlan:
    """Check the options and complete them with defaults.

    Raises:
        UserError: An arm, point, sampler or number of clips is not available.
    """
    spec, own = bench.model.spec, bench.template
    if unknown := [arm for arm in options.arms if arm not in ARMS]:
        raise UserError(f"no arm {unknown[0]!r}: the arms are {', '.join(ARMS)}")
    steps = own.num_inference_steps
    if bad := [point for point in options.nfe if not 1 <= point <= steps]:
        raise UserError(f"--nfe {bad[0]}: it must lie in 1 to {steps}, the steps of a run")
    captions = captions_of(spec.name, options.prompts, options.split)
    most = min(len(captions), QUICK_CLIPS if options.quick else MOST_CLIPS)
    fitting = captions_of(spec.name, options.prompts, CALIBRATION)
    if options.calibration_clips < 0:
        raise UserError("--calibration-clips must not be negative")
    fitted = options.calibration_clips or (4 if options.quick else 8)
    return QualityPlan(
        clips=split_clips(captions, options.split, options.clips or most),
        calibration=split_clips(fitting, CALIBRATION, fitted),
        arms=list(options.arms or (QUICK_ARMS if options.quick else FULL_ARMS)),
        points=sorted(options.nfe, reverse=True),
        common=sorted(options.common, reverse=True),
        samplers=samplers_for(options.sampler, own.sampler, spec.family),
        rows=options.batch_rows or spec.batch_rows,
        profile=_given_profile(options.profile) if options.profile else None,
    )


def _given_profile(uri: str) -> SensitivityProfile:
    storage, name = locate(uri)
    try:
        return SensitivityProfile.from_json(storage.read_bytes(name).decode(), origin=uri)
    except (ProfileError, UnicodeDecodeError) as error:
        raise UserError(f"--profile {uri}: {error}") from error


def _measure(
    bench: Bench,
    sampler: str,
    plan: QualityPlan,
    batches: Sequence[ClipBatch],
    calibration: Sequence[ClipBatch],
    comparison: ReferenceComparison,
    console: Console,
) -> dict[str, Any]:
    """Tune and run all arms under one sampler."""
    steps = bench.template.num_inference_steps
    short = sampler.partition("/")[0]
    points = _points(bench, sampler, plan, calibration, comparison.store, console)
    for point in points:
        if point.problem:
            console.print(f"{point.arm} at {point.wanted}: {point.problem}")
    total = len(plan.clips) * (steps + sum(point.wanted for point in points if point.run))
    with show_progress(console, f"{short}: {len(plan.clips)} clips") as watch:
        uncached, records = run_arms(
            batches,
            points,
            DenoisingRun(sampler, steps),
            comparison,
            lambda done: watch.show(done, total),
        )
    return {
        "uncached": summary(uncached, None, steps),
        "arms": [
            summary(record, paper_of(records, PAPER, record.point.wanted), steps)
            for record in records
        ],
    }


def _points(
    bench: Bench,
    sampler: str,
    plan: QualityPlan,
    calibration: Sequence[ClipBatch],
    store: ReferenceStore,
    console: Console,
) -> list[OperatingPoint]:
    """Tune the runs of all arms on calibration clips."""
    tuner = points_tuner(bench, sampler, plan, calibration, store, console)
    wanted = [(arm, point) for arm in plan.arms for point in plan.points_of(arm)]
    points = []
    short = sampler.partition("/")[0]
    with show_progress(console, f"{short}: tuning {len(plan.arms)} arms") as watch:
        for done, (arm, point) in enumerate(wanted):
            watch.show(done, len(wanted), f"{arm} {point}")
            points.append(tuner.point(arm, point))
    return points


def points_tuner(
    bench: Bench,
    sampler: str,
    plan: QualityPlan,
    calibration: Sequence[ClipBatch],
    store: ReferenceStore,
    console: Console,
) -> Tuner:
    """What tunes arms under one sampler; measures the sensitivity profile if there is none."""
    steps = bench.template.num_inference_steps
    short = sampler.partition("/")[0]
    profile = plan.profile
    if profile is None and any(arm in BASELINES for arm in plan.arms):
        captions = [clip.caption for clip in plan.calibration]
        with show_progress(console, f"{short}: sensitivity profile") as watch:
            profile = profile_for(bench, sampler, captions, store.folder, watch.show)

    def run_calibration(after: Callable[[], None] = lambda: None) -> None:
        for batch in calibration:
            batch.denoise(DenoisingRun(sampler, steps))
            after()

    def sampling(baseline: Baseline | None) -> torch.Tensor:
        return calibration[0].denoise(DenoisingRun(sampler, steps, baseline)).latents

    setup = BaselineSetup(bench.pipe, profile, steps, run_calibration, sampling)
    return Tuner(setup, sampler, calibration)


def _shared(bench: Bench) -> dict[str, Any]:
    """Return the sampling settings that all clips share."""
    varying = ("prompt", "seed", "cache", "model", "model_revision", "sampler")
    return {name: v for name, v in bench.template.identity().items() if name not in varying}
