"""Makes the clips of every arm and keeps their distances, batch by batch, in a file.

Batches come first and arms second, so that a measurement that is cut short has all arms on the same
clips. The file has one line of settings and one per sampler, arm, point and batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from jobs.benchmarks.quality.benchmark import QualityPlan, load_for, make_plan, points_tuner
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.perception import ClipMeasure, load_flip, load_jod
from jobs.benchmarks.quality.points import OperatingPoint, Tuner
from jobs.benchmarks.quality.references import ReferenceStore
from jobs.benchmarks.quality.splits import (
    CALIBRATION,
    captions_of,
    prompts_hash,
    split_clips,
)
from jobs.benchmarks.rivals.own_clips import OWN_CLIPS, own_profile
from pipeline.errors import UserError
from pipeline.scoring.similarity import psnr, ssim

DIGITS = {"psnr": 3, "ssim": 5, "jod": 4, "flip": 5}


@dataclass
class Kept:
    """What a file holds.

    Attributes:
        path: The file.
        settings: Its first line.
        lines: The others: sampler, arm, wanted NFE, batch, and values per clip.
    """

    path: Path
    settings: Mapping[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path, settings: Mapping[str, Any]) -> Kept:
        """Begin a file, or go on with one of the same settings; a half line at its end is dropped.

        Raises:
            UserError: The file is of other settings.
        """
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": settings}) + "\n")
            return cls(path, settings)
        *whole, _rest = path.read_text().split("\n")
        path.write_text("".join(f"{line}\n" for line in whole))
        first, *lines = (json.loads(line) for line in whole)
        theirs = first["settings"]
        for name, value in settings.items():
            if theirs.get(name) != value:
                raise UserError(
                    f"--partial {path}: it was measured with {name} {theirs.get(name)!r}, not "
                    f"{value!r}; give another file"
                )
        return cls(path, settings, lines)

    def has(self, sampler: str, arm: str, wanted: int, batch: int) -> bool:
        """Whether a batch of an arm is measured."""
        wanted_key = (sampler, arm, wanted, batch)
        return any(
            (each["sampler"], each["arm"], each["wanted"], each["batch"]) == wanted_key
            for each in self.lines
        )

    def add(self, line: dict[str, Any]) -> None:
        """Keep the values of one batch of an arm."""
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Eyes:
    """The measures of a clip against its reference, by name."""

    measures: Mapping[str, ClipMeasure]

    def values(
        self, clips: Sequence[torch.Tensor], references: Sequence[torch.Tensor]
    ) -> dict[str, list[float]]:
        """One value per clip and measure."""
        return {
            name: [
                round(measure(clip, reference), DIGITS[name])
                for clip, reference in zip(clips, references, strict=True)
            ]
            for name, measure in self.measures.items()
        }


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure what the file lacks.

    Returns:
        JSON: settings, what is missing and why, and per sampler the lines of the file.

    Raises:
        UserError: See :func:`jobs.benchmarks.rivals.main`.
    """
    for name, value in (("quick", False), ("size", ""), ("shift", 0.0)):
        setattr(options, name, value)
    options.common = options.nfe
    bench = load_for(options)
    plan = make_plan(options, bench)
    eyes, missing = _eyes(bench.template.fps)
    for why in missing:
        console.print(why)
    settings = {
        "model": bench.model.spec.name,
        "revision": bench.model.revision,
        "split": options.split,
        "steps": bench.template.num_inference_steps,
        "prompts_hash": prompts_hash(plan.clips),
        "calibration_hash": prompts_hash(plan.calibration),
        "rows": plan.rows,
        "measures": sorted(eyes.measures),
    }
    kept = Kept.opened(Path(options.partial), settings)
    saved = dict(bench.pipe.scheduler.config)
    batches = make_batches(bench, plan.clips, plan.rows, saved)[: options.batches or None]
    calibration = make_batches(bench, plan.calibration, plan.rows, saved)
    ends = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    store = ReferenceStore(Path(options.cache_dir))
    fitting = captions_of(bench.model.spec.name, options.prompts, CALIBRATION)
    first = split_clips(fitting, CALIBRATION, OWN_CLIPS)
    for sampler in plan.samplers:
        if time.monotonic() < ends:
            tuner = points_tuner(bench, sampler, plan, calibration, store, console)
            own = functools.partial(own_profile, bench, sampler, tuner.setup.steps, first, saved)
            tuner.setup = dataclasses.replace(tuner.setup, own_profile=own)
            _measure(sampler, plan, batches, tuner, kept, eyes, ends, console)
    return {
        **settings,
        "label": options.label or bench.model.spec.name,
        "request": {
            name: getattr(bench.template, name)
            for name in ("width", "height", "num_frames", "guidance_scale")
        },
        "clips_wanted": len(plan.clips),
        "points": plan.points,
        "missing": missing,
        "samplers": {
            sampler: [each for each in kept.lines if each["sampler"] == sampler]
            for sampler in plan.samplers
        },
    }


def _eyes(frames_per_second: float) -> tuple[Eyes, list[str]]:
    measures: dict[str, ClipMeasure] = {"psnr": psnr, "ssim": ssim}
    missing = []
    for name, (measure, why) in (("jod", load_jod(frames_per_second)), ("flip", load_flip())):
        if measure is None:
            missing.append(why)
        else:
            measures[name] = measure
    return Eyes(measures), missing


def _measure(
    sampler: str,
    plan: QualityPlan,
    batches: Sequence[ClipBatch],
    tuner: Tuner,
    kept: Kept,
    eyes: Eyes,
    ends: float,
    console: Console,
) -> None:
    """Measure all arms under one sampler, until the time is up."""
    tuned: dict[tuple[str, int], OperatingPoint] = {}
    for number, batch in enumerate(batches):
        wanted = [(arm, point) for point in plan.points for arm in plan.arms]
        todo = [each for each in wanted if not kept.has(sampler, *each, number)]
        if not todo:
            continue
        reference = batch.decode(batch.denoise(DenoisingRun(sampler, tuner.setup.steps)).latents)
        for arm, point in todo:
            if time.monotonic() >= ends:
                console.print(f"{sampler}: the time is up in batch {number + 1} of {len(batches)}")
                return
            if (arm, point) not in tuned:
                tuned[arm, point] = tuner.point(arm, point)
            found = tuned[arm, point]
            line: dict[str, Any] = {
                "sampler": sampler,
                "arm": arm,
                "wanted": point,
                "batch": number,
                "setting": found.setting,
            }
            if found.run is None:
                kept.add(line | {"problem": found.problem})
                continue
            made = batch.denoise(found.run)
            kept.add(line | {"nfe": made.nfe} | eyes.values(batch.decode(made.latents), reference))
            console.print(f"{sampler} batch {number + 1}/{len(batches)}: {arm} {point}")
