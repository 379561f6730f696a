"""Variants of the paper's rule on the same clips, each against the uncached run of the same noise.

Variants take turns batch by batch, in an order that moves on. Only latents of the uncached runs are
kept from study to study: frames of real clips would fill the memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from jobs.benchmarks.baselines import SenCachePaper
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.intervals import interval, paired
from jobs.benchmarks.quality.splits import ClipSpec
from pipeline.scoring.similarity import psnr, ssim
from sencache import SenCacheConfig


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
        name: Shown in tables; no other variant of the study has it.
        rule: What is applied.
        against: Name of the variant that this one is set against, clip by clip; "" for none.
    """

    name: str
    rule: SenCachePaper
    against: str = ""


@dataclass
class VariantResult:
    """A variant over all clips.

    Attributes:
        variant: Which.
        nfe: Network evaluations of each clip, in steps.
        psnr: Against the uncached clip, in dB.
        ssim: Likewise.
    """

    variant: Variant
    nfe: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)

    def add(
        self, nfe: Sequence[float], clips: Sequence[torch.Tensor], uncached: Sequence[torch.Tensor]
    ) -> None:
        """Count the clips of one batch."""
        self.nfe += nfe
        for clip, reference in zip(clips, uncached, strict=True):
            self.psnr.append(psnr(clip, reference))
            self.ssim.append(ssim(clip, reference))


@dataclass(frozen=True)
class Stage:
    """Clips under one setting of the sampler.

    Attributes:
        batches: The clips.
        control: The uncached run.
    """

    batches: Sequence[ClipBatch]
    control: DenoisingRun
    _uncached: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """How many."""
        return sum(len(batch.requests) for batch in self.batches)

    @property
    def steps(self) -> int:
        """Of a run."""
        return self.control.steps

    def measure(
        self, variants: Sequence[Variant], advance: Callable[[int, int], None]
    ) -> list[dict[str, Any]]:
        """Run every variant over every clip.

        Args:
            variants: In the order of the table.
            advance: Told the clips that have been made and their number, all variants together.

        Returns:
            One summary per variant, as `summaries` makes them.
        """
        outcomes = [VariantResult(variant) for variant in variants]
        done, total = 0, self.clips * len(variants)
        for number, batch in enumerate(self.batches):
            frames = batch.decode(self._control(number))
            for turn in range(len(outcomes)):
                outcome = outcomes[(turn + number) % len(outcomes)]
                made = batch.denoise(self._run(outcome.variant.rule))
                outcome.add(made.nfe, batch.decode(made.latents), frames)
                done += len(frames)
                advance(done, total)
        return summaries(outcomes, self.steps)

    def nfe(self, rule: SenCachePaper) -> float:
        """Mean NFE of a rule, nothing decoded: what tuning asks for."""
        run = self._run(rule)
        return statistics.fmean(nfe for batch in self.batches for nfe in batch.denoise(run).nfe)

    def _run(self, rule: SenCachePaper) -> DenoisingRun:
        return DenoisingRun(self.control.sampler, self.steps, rule)

    def _control(self, number: int) -> torch.Tensor:
        if number not in self._uncached:
            made = self.batches[number].denoise(self.control)
            self._uncached[number] = made.latents.cpu()
        return self._uncached[number].to(self.batches[number].loop.device)


def make_stage(bench: Bench, clips: Sequence[ClipSpec]) -> Stage:
    """Encode the texts of clips, to be made under the settings of the bench."""
    own = bench.template
    saved = dict(bench.pipe.scheduler.config)
    batches = make_batches(bench, clips, bench.model.spec.batch_rows, saved)
    return Stage(batches, DenoisingRun(own.sampler, own.num_inference_steps))


def summaries(outcomes: Sequence[VariantResult], steps: int) -> list[dict[str, Any]]:
    """Numbers of a study's rows, as JSON.

    Raises:
        ValueError: An outcome is set against one that is not there, or has no clips.
    """
    by_name = {outcome.variant.name: outcome for outcome in outcomes}
    return [_summary(outcome, by_name, steps) for outcome in outcomes]


def floor(config: SenCacheConfig, steps: int) -> int:
    """NFE of a run in which nothing but `max_reuse` ends a row of reuses.

    The strict steps all compute, as they do unless their score is very small. A variant whose NFE
    lies here follows a fixed pattern: its score decides nothing.
    """
    strict = max(1, round(config.strict_fraction * steps))
    computed, reused = 0, 0
    for step in range(steps):
        forced = step < strict or step >= steps - config.final_computed
        if forced or reused == config.max_reuse:
            computed, reused = computed + 1, 0
        else:
            reused += 1
    return computed


def _summary(
    outcome: VariantResult, by_name: Mapping[str, VariantResult], steps: int
) -> dict[str, Any]:
    variant = outcome.variant
    result: dict[str, Any] = {
        "name": variant.name,
        "epsilon": variant.rule.config.epsilon,
        "max_reuse": variant.rule.config.max_reuse,
        "profile": variant.rule.profile.hash,
        "nfe_mean": statistics.fmean(outcome.nfe),
        "nfe_floor": floor(variant.rule.config, steps),
        "psnr": asdict(interval(outcome.psnr)) | {"worst": min(outcome.psnr)},
        "ssim": asdict(interval(outcome.ssim)) | {"worst": min(outcome.ssim)},
        "per_clip": {
            "nfe": outcome.nfe,
            "psnr": [round(value, 3) for value in outcome.psnr],
            "ssim": [round(value, 5) for value in outcome.ssim],
        },
    }
    if variant.against:
        if variant.against not in by_name:
            raise ValueError(f"{variant.name} is set against {variant.against}, which did not run")
        difference = paired(outcome.psnr, by_name[variant.against].psnr)
        result["difference"] = asdict(difference) | {
            "against": variant.against,
            "tie": difference.is_tie,
        }
    return result
