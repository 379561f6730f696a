"""Runs drafts to their half, and finished clips by plans that begin as a draft does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from jobs.benchmarks.baselines.own import Planned
from jobs.benchmarks.candidates.slots import MODEL, STEPS
from jobs.benchmarks.draft_shortcuts.shared_start import SharedStart
from jobs.benchmarks.profiles.bench import Bench, load_bench
from jobs.benchmarks.profiles.plan_errors import plan_under, relative_error
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.splits import ClipSpec
from pipeline.candidates.drafts import candidates_of
from pipeline.config.run_config import RunConfig
from pipeline.models.profile import load_profile
from pipeline.models.samplers import make_scheduler
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.panel import ScoringPlan
from pipeline.scoring.scorer import ScoredClip
from pipeline.scoring.similarity import psnr
from sencache import SensitivityProfile

ROWS = 8


@dataclass(frozen=True)
class ShortcutBench:
    """The model, with the profile that plans are made from.

    Attributes:
        bench: The model.
        profile: Its profile.
    """

    bench: Bench
    profile: SensitivityProfile

    @classmethod
    def load(cls, config: RunConfig) -> Self:
        """Load the embedded model."""
        bench = load_bench(MODEL)
        profile = load_profile(config.cache, bench.model)
        assert profile is not None  # noqa: S101 - the run is planned
        return cls(bench, profile)

    def plans(
        self, requests: Sequence[SampleRequest], plans: Sequence[tuple[int, int]], draft: int
    ) -> list[dict[str, Any]]:
        """What plans promise and leave, each against the uncached clips.

        Args:
            requests: The clips.
            plans: Computed steps, and how many of them are the draft's first.
            draft: Computed steps of the draft.
        """
        sampler = requests[0].sampler
        batches = self._batches(requests)
        uncached = [batch.denoise(DenoisingRun(sampler, STEPS)).latents for batch in batches]
        clips = [
            clip
            for batch, each in zip(batches, uncached, strict=True)
            for clip in batch.decode(each)
        ]
        found = []
        for computed, shared in plans:
            method = SharedStart(self.profile, computed, draft, shared)
            run = DenoisingRun(sampler, STEPS, method)
            made = [batch.denoise(run).latents for batch in batches]
            shown = [
                clip
                for batch, each in zip(batches, made, strict=True)
                for clip in batch.decode(each)
            ]
            decibels = [psnr(a, b) for a, b in zip(shown, clips, strict=True)]
            found.append(
                {
                    "computed": computed,
                    "shared": shared,
                    "new": method.new,
                    "promised": self._promised(method, sampler),
                    "error": relative_error(made, uncached),
                    "psnr": [round(value, 2) for value in decibels],
                }
            )
        return found

    def half_way(
        self, slot: SampleRequest, seeds: int, draft: int, half: int, judge: str, score: str
    ) -> list[float]:
        """Scores of the clips that drafts predict half-way, per seed.

        Args:
            slot: The clip whose drafts they are.
            seeds: Drafts.
            draft: Computed steps of a draft.
            half: Computed steps until then.
            judge: As `--scorers` takes it.
            score: Name of its score.
        """
        requests = candidates_of(slot, seeds)
        sampler = slot.sampler
        computed = plan_under(self.bench, self.profile, sampler, STEPS, draft).computed
        # The step after the last computed one is a forecast, without a repair of earlier steps.
        look = PredictedClip(computed[half - 1] + 1)
        frames = []
        for batch in self._batches(requests):
            settings = {**batch.loop.settings, "callback_on_step_end": look}
            watched = dataclasses.replace(
                batch, loop=dataclasses.replace(batch.loop, settings=settings)
            )
            watched.denoise(
                DenoisingRun(sampler, STEPS, Planned(self.profile).budgeted(draft, STEPS))
            )
            frames += batch.decode(look.clip)
        panel = ScoringPlan((judge,)).panel()
        scores = []
        for clip in frames:
            pixels = (clip * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
            seen = ScoredClip(pixels, slot.fps, slot.prompt, {"source": slot.source})
            scores.append(float(panel.score(seen).scores[score] or 0.0))
        return scores

    def _batches(self, requests: Sequence[SampleRequest]) -> list[ClipBatch]:
        clips = [ClipSpec(request.prompt, request.seed) for request in requests]
        return make_batches(self.bench, clips, ROWS, dict(self.bench.pipe.scheduler.config))

    def _promised(self, method: SharedStart, sampler: str) -> float:
        from sencache.schedules.sampler_moves import step_moves, step_times

        scheduler = make_scheduler(
            sampler, self.bench.model.spec.family, dict(self.bench.pipe.scheduler.config)
        )
        scheduler.set_timesteps(STEPS)
        return method.plan(step_times(scheduler), step_moves(scheduler)).error


@dataclass
class PredictedClip:
    """Stops a flow model's run after a step, and keeps the clip that its outputs predict by then.

    With latents x = (1 - s) clip + s noise, the output is noise less clip. Euler's step gives it
    away: it is the difference of the latents over that of s.

    Attributes:
        step: The step, from 1.
        clip: Latents of the predicted clips.
    """

    step: int
    clip: torch.Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))
    _before: torch.Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))

    def __call__(self, pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Take the latents after a step, as diffusers passes them."""
        latents = values["latents"]
        if step == self.step - 1:
            self._before = latents.clone()
        elif step == self.step:
            here, after = (float(pipe.scheduler.sigmas[at]) for at in (step, step + 1))
            output = (latents - self._before) / (after - here)
            self.clip = self._before - here * output
            pipe._interrupt = True  # diffusers 0.42: the steps that are left do nothing
        return {}
