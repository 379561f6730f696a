"""Measures ways to spend few evaluations on held-out clips; goes on where it was interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarks.candidates.kept import KeptPrompts
from jobs.benchmarks.low_end.ways import WAYS
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.intervals import interval, paired, paired_worst_decile, worst_decile
from jobs.benchmarks.quality.profiles import profile_for
from jobs.benchmarks.quality.splits import CALIBRATION, FIRST_SEED, ClipSpec
from pipeline.calibration.measure import fitted_profile
from pipeline.requests.sample_request import digest
from pipeline.scoring.similarity import psnr
from sencache import SensitivityProfile

ROWS = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class LowEndBench:
    """A model with clips to fit on, and others to measure.

    Attributes:
        bench: The model.
        measured: Clips to measure.
        fitting: Calibration clips.
        profile_clips: How many of these, from the first, a profile is measured on.
        cache_dir: Keeps profiles, measured and fitted.
        kept: Keeps cells that are done.
        say: Called with a line of text on the progress.
    """

    bench: Bench
    measured: Sequence[ClipSpec]
    fitting: Sequence[ClipSpec]
    profile_clips: int
    cache_dir: Path
    kept: KeptPrompts
    say: Say

    def sampler(self, sampler: str, ways: Sequence[str], points: Sequence[int]) -> dict[str, Any]:
        """Measure all ways at all points under a sampler.

        Args:
            sampler: Name as in `pipeline.models.samplers`.
            ways: Names of :data:`~jobs.benchmarks.low_end.ways.WAYS`.
            points: Evaluations of a clip.
        """
        steps = self.bench.template.num_inference_steps
        template = dataclasses.replace(self.bench.template, sampler=sampler)
        bench = dataclasses.replace(self.bench, template=template)
        saved = dict(bench.pipe.scheduler.config)
        captions = [clip.caption for clip in self.fitting[: self.profile_clips]]
        profile = profile_for(bench, sampler, captions, self.cache_dir, lambda *_: None)
        done = {
            (each["way"], each["nfe"]): each
            for each in self.kept.read()
            if each["sampler"] == sampler
        }
        cells = [(way, nfe) for nfe in points for way in ways if nfe in WAYS[way].points]
        if wanted := [cell for cell in cells if cell not in done]:
            fitted = profile
            if budgets := sorted({nfe for way, nfe in wanted if WAYS[way].fitted}):
                fitted = self._fitted(bench, profile, budgets)
            batches = make_batches(bench, self.measured, ROWS, saved)
            whole = [batch.denoise(DenoisingRun(sampler, steps)).latents for batch in batches]
            frames = [batch.decode(latents) for batch, latents in zip(batches, whole, strict=True)]
            for way, nfe in wanted:
                used = fitted if WAYS[way].fitted else profile
                cell = measured_cell(batches, frames, WAYS[way].run(sampler, steps, nfe, used))
                done[way, nfe] = {"sampler": sampler, "way": way, "nfe": nfe, **cell}
                self.kept.add(done[way, nfe])
                self.say(f"{sampler}: {way} at {nfe} is measured")
        return {"profile": profile.hash, "cells": summaries([done[cell] for cell in cells])}

    def _fitted(
        self, bench: Bench, profile: SensitivityProfile, budgets: Sequence[int]
    ) -> SensitivityProfile:
        """The profile with fitted plans, kept like a measured one."""
        clips = [[clip.caption, clip.seed] for clip in self.fitting]
        key = digest([bench.template.identity(), profile.hash, clips, list(budgets)]).hex()
        path = self.cache_dir / f"fitted-{key}.json"
        if path.is_file():
            return SensitivityProfile.load(path)
        found = fitted_profile(
            bench.model,
            bench.pipe,
            bench.template,
            profile,
            [clip.caption for clip in self.fitting],
            budgets,
            first_seed=FIRST_SEED[CALIBRATION],
            batch_size=ROWS,
        )
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        found.save(path)
        return found


def measured_cell(
    batches: Sequence[ClipBatch], frames: Sequence[Sequence[torch.Tensor]], run: DenoisingRun
) -> dict[str, Any]:
    """PSNR of each clip, and the steps that were computed."""
    found: list[float] = []
    decisions = ""
    for batch, wanted in zip(batches, frames, strict=True):
        made = batch.denoise(run)
        decisions = made.decisions[0]
        clips = batch.decode(made.latents)
        found += [round(psnr(a, b), 2) for a, b in zip(clips, wanted, strict=True)]
    computed = [step for step, what in enumerate(decisions) if what == "C"]
    return {"per_clip": found, "computed": computed}


def summaries(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cells as JSON values; each is compared with the bounded plan of its evaluations."""
    bounded = {cell["nfe"]: cell["per_clip"] for cell in cells if cell["way"] == "bounded"}
    rows = []
    for cell in cells:
        row = {name: value for name, value in cell.items() if name != "sampler"}
        made = cell["per_clip"]
        row["psnr"] = dataclasses.asdict(interval(made))
        row["worst_decile"] = worst_decile(made)
        if cell["nfe"] in bounded and cell["way"] != "bounded":
            difference = paired(made, bounded[cell["nfe"]])
            tail = paired_worst_decile(made, bounded[cell["nfe"]])
            row["to_bounded"] = dataclasses.asdict(difference) | {"tie": difference.is_tie}
            row["tail_to_bounded"] = dataclasses.asdict(tail)
        rows.append(row)
    return rows
