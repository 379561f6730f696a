"""Measures plans of branches on held-out clips, after choosing them on calibration clips."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarks.late_guidance.branch_plans import (
    KINDS,
    BranchPlan,
    BranchPlanner,
    Kind,
    mean_drift,
)
from jobs.benchmarks.late_guidance.guided_loop import BranchRecorder, run_guided
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.accuracy import CaptionMatch, judge_clips
from jobs.benchmarks.quality.denoising import ClipBatch, make_batches
from jobs.benchmarks.quality.intervals import interval, paired, worst_decile
from jobs.benchmarks.quality.profiles import profile_for
from jobs.benchmarks.quality.splits import CALIBRATION, ClipSpec, split_clips
from pipeline.models.samplers import make_scheduler
from pipeline.scoring.similarity import psnr
from sencache import SensitivityProfile
from sencache.extension import step_moves

ROWS = 4
Say = Callable[[str], None]


@dataclass
class PlanClips:
    """What one plan made of the clips that are measured.

    Attributes:
        kind: Of the plan.
        budget: Evaluations of a clip that it may use.
        plan: The plan.
        psnr: To the uncached clip, dB, per clip.
        matches: Per clip, how well it shows its caption.
    """

    kind: Kind
    budget: int
    plan: BranchPlan
    psnr: list[float] = field(default_factory=list)
    matches: list[CaptionMatch] = field(default_factory=list)


@dataclass(frozen=True)
class GuidanceBench:
    """A model with clips to choose plans on, and others to measure them on.

    Attributes:
        bench: The model.
        measured: Clips to measure.
        tuning: Calibration clips.
        cache_dir: Keeps profiles.
        say: Called with a line of text on the progress.
    """

    bench: Bench
    measured: Sequence[ClipSpec]
    tuning: Sequence[ClipSpec]
    cache_dir: Path
    say: Say

    def sampler(self, sampler: str, budgets: Sequence[int]) -> dict[str, Any]:
        """Measure all kinds of plans under a sampler.

        Args:
            sampler: Name as in `pipeline.models.samplers`.
            budgets: Evaluations of a clip, both branches counted; even numbers.
        """
        steps = self.bench.template.num_inference_steps
        bench = dataclasses.replace(
            self.bench, template=dataclasses.replace(self.bench.template, sampler=sampler)
        )
        saved = dict(bench.pipe.scheduler.config)
        captions = [clip.caption for clip in self.tuning]
        profile = profile_for(bench, sampler, captions, self.cache_dir, lambda *_: None)
        tuning = make_batches(bench, self.tuning, ROWS, saved)
        planner, references = self._planner(profile, tuning, sampler, steps)
        arms = []
        for budget in budgets:
            for kind in KINDS:
                plan = self._chosen(planner, kind, budget, tuning, references, sampler)
                arms.append(PlanClips(kind, budget, plan))
            self.say(f"{sampler}: plans of {budget} evaluations are chosen")
        uncached = self._measure(arms, make_batches(bench, self.measured, ROWS, saved), sampler)
        return {
            "profile": profile.hash,
            "uncached": _matches(uncached),
            "arms": summaries(arms),
            "predicted": [
                {"budget": budget, **_shape(planner.best_predicted(budget))} for budget in budgets
            ],
        }

    def _planner(
        self,
        profile: SensitivityProfile,
        batches: Sequence[ClipBatch],
        sampler: str,
        steps: int,
    ) -> tuple[BranchPlanner, list[list[torch.Tensor]]]:
        """A planner by the drift of calibration clips, and their uncached frames."""
        scale = self.bench.template.guidance_scale
        taus: tuple[float, ...] = ()
        drifts, frames = [], []
        for batch in batches:
            recorder = BranchRecorder(scale)
            made = run_guided(batch, sampler, steps, None, recorder)
            frames.append(batch.decode(made.latents))
            drifts.append(recorder.difference.distances())
            taus = recorder.difference.taus()
        scheduler = make_scheduler(sampler, self.bench.model.spec.family, batches[0].saved)
        scheduler.set_timesteps(steps)
        assert profile.drift is not None  # noqa: S101 - measured just now, or shipped
        outputs, difference = profile.drift.at(taus), mean_drift(taus, drifts)
        return BranchPlanner(outputs, difference, step_moves(scheduler), scale), frames

    def _chosen(
        self,
        planner: BranchPlanner,
        kind: Kind,
        budget: int,
        batches: Sequence[ClipBatch],
        references: Sequence[Sequence[torch.Tensor]],
        sampler: str,
    ) -> BranchPlan:
        """The plan of a kind that comes nearest to the uncached calibration clips."""
        steps = planner.outputs.steps
        plans = [planner.plan(kind, budget, count) for count in planner.choices(kind, budget)]
        if len(plans) == 1:
            return plans[0]
        found = []
        for plan in plans:
            made: list[float] = []
            for batch, frames in zip(batches, references, strict=True):
                clips = batch.decode(run_guided(batch, sampler, steps, plan).latents)
                made += [psnr(a, b) for a, b in zip(clips, frames, strict=True)]
            found.append(statistics.fmean(made))
        return plans[found.index(max(found))]

    def _measure(
        self, arms: Sequence[PlanClips], batches: Sequence[ClipBatch], sampler: str
    ) -> list[CaptionMatch]:
        """Fill the arms; returns how well uncached clips show their captions."""
        matches: list[CaptionMatch] = []
        for number, batch in enumerate(batches, 1):
            captions = [request.prompt for request in batch.requests]
            steps = batch.requests[0].num_inference_steps
            frames = batch.decode(run_guided(batch, sampler, steps, None).latents)
            matches += judge_clips(self.bench.model, captions, frames) or []
            for arm in arms:
                made = run_guided(batch, sampler, steps, arm.plan)
                if made.evaluations != arm.budget:
                    raise RuntimeError(f"{arm.kind}: {made.evaluations} evaluations")
                clips = batch.decode(made.latents)
                arm.psnr += [psnr(a, b) for a, b in zip(clips, frames, strict=True)]
                arm.matches += judge_clips(self.bench.model, captions, clips) or []
            self.say(f"{sampler}: {number}/{len(batches)} batches are measured")
        return matches


def summaries(arms: Sequence[PlanClips]) -> list[dict[str, Any]]:
    """The arms as JSON values; each is compared with the planned one of its budget."""
    planned = {arm.budget: arm for arm in arms if arm.kind == "planned"}
    rows = []
    for arm in arms:
        difference = paired(arm.psnr, planned[arm.budget].psnr)
        rows.append(
            {
                "kind": arm.kind,
                "budget": arm.budget,
                **_shape(arm.plan),
                "psnr": dataclasses.asdict(interval(arm.psnr)),
                "worst_decile": worst_decile(arm.psnr),
                "to_planned": dataclasses.asdict(difference) | {"tie": difference.is_tie},
                "per_clip": [round(value, 2) for value in arm.psnr],
                **_matches(arm.matches),
            }
        )
    return rows


def tuning_clips(captions: Sequence[str], count: int) -> list[ClipSpec]:
    """Calibration clips to choose plans on."""
    return split_clips(captions, CALIBRATION, count)


def _shape(plan: BranchPlan) -> dict[str, Any]:
    computed = plan.outputs.computed
    return {
        "computed": list(computed),
        "guided": [computed[place] for place in plan.guidance.computed],
        "predicted": None if plan.off else plan.error,
    }


def _matches(matches: Sequence[CaptionMatch]) -> dict[str, float]:
    if not matches:
        return {}
    return {
        "right": statistics.fmean(match.right for match in matches),
        "fit": statistics.fmean(match.fit for match in matches),
    }
