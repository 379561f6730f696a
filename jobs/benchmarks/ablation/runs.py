"""Runs variants of the paper's rule on the same clips and compares them with uncached runs.

Variants take turns batch by batch, in a rotating order. Only the latents of uncached runs are kept
between studies, because frames of real clips would fill the memory.
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
        name: Name in tables, unique within the study.
        rule: The rule to apply.
        against: Name of the variant that this one is compared with, clip by clip; "" for none.
    """

    name: str
    rule: SenCachePaper
    against: str = ""


@dataclass
class VariantResult:
    """The numbers of a variant over all clips.

    Attributes:
        variant: The variant.
        nfe: Network evaluations of each clip, in steps.
        psnr: PSNR of each clip to the uncached clip, in dB.
        ssim: SSIM of each clip to the uncached clip.
    """

    variant: Variant
    nfe: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)

    def add(
        self, nfe: Sequence[float], clips: Sequence[torch.Tensor], uncached: Sequence[torch.Tensor]
    ) -> None:
        """Add the clips of one batch."""
        self.nfe += nfe
        for clip, reference in zip(clips, uncached, strict=True):
            self.psnr.append(psnr(clip, reference))
            self.ssim.append(ssim(clip, reference))


@dataclass(frozen=True)
class ClipSet:
    """Clips that are made under one setting of the sampler.

    Attributes:
        batches: The clips.
        control: The uncached run.
    """

    batches: Sequence[ClipBatch]
    control: DenoisingRun
    _uncached: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(len(batch.requests) for batch in self.batches)

    @property
    def steps(self) -> int:
        """Steps of a run."""
        return self.control.steps

    def measure(
        self, variants: Sequence[Variant], advance: Callable[[int, int], None]
    ) -> list[dict[str, Any]]:
        """Run every variant over every clip.

        Args:
            variants: The variants, in the order of the table.
            advance: Called with the number of clips made and of all clips, over all variants.

        Returns:
            One summary per variant, as `summaries` makes them.
        """
        results = [VariantResult(variant) for variant in variants]
        done, total = 0, self.clips * len(variants)
        for number, batch in enumerate(self.batches):
            frames = batch.decode(self._control(number))
            for turn in range(len(results)):
                result = results[(turn + number) % len(results)]
                made = batch.denoise(self._run(result.variant.rule))
                result.add(made.nfe, batch.decode(made.latents), frames)
                done += len(frames)
                advance(done, total)
        return summaries(results, self.steps)

    def nfe(self, rule: SenCachePaper) -> float:
        """Return the mean NFE of a rule, without decoding, for tuning."""
        run = self._run(rule)
        return statistics.fmean(nfe for batch in self.batches for nfe in batch.denoise(run).nfe)

    def _run(self, rule: SenCachePaper) -> DenoisingRun:
        return DenoisingRun(self.control.sampler, self.steps, rule)

    def _control(self, number: int) -> torch.Tensor:
        if number not in self._uncached:
            made = self.batches[number].denoise(self.control)
            self._uncached[number] = made.latents.cpu()
        return self._uncached[number].to(self.batches[number].loop.device)


def make_clip_set(bench: Bench, clips: Sequence[ClipSpec]) -> ClipSet:
    """Encode the texts of clips that are made under the settings of the bench."""
    own = bench.template
    saved = dict(bench.pipe.scheduler.config)
    batches = make_batches(bench, clips, bench.model.spec.batch_rows, saved)
    return ClipSet(batches, DenoisingRun(own.sampler, own.num_inference_steps))


def summaries(results: Sequence[VariantResult], steps: int) -> list[dict[str, Any]]:
    """Return the rows of a study as JSON values.

    Raises:
        ValueError: A variant is compared with one that did not run, or has no clips.
    """
    by_name = {result.variant.name: result for result in results}
    return [_summary(result, by_name, steps) for result in results]


def floor(config: SenCacheConfig, steps: int) -> int:
    """Return the NFE of a run in which only `max_reuse` ends a sequence of reuses.

    The strict steps are counted as computed, as they are unless their score is very small. A
    variant with this NFE follows a fixed pattern: its score decides nothing.
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
    result: VariantResult, by_name: Mapping[str, VariantResult], steps: int
) -> dict[str, Any]:
    variant = result.variant
    row: dict[str, Any] = {
        "name": variant.name,
        "epsilon": variant.rule.config.epsilon,
        "max_reuse": variant.rule.config.max_reuse,
        "profile": variant.rule.profile.hash,
        "nfe_mean": statistics.fmean(result.nfe),
        "nfe_floor": floor(variant.rule.config, steps),
        "psnr": asdict(interval(result.psnr)) | {"worst": min(result.psnr)},
        "ssim": asdict(interval(result.ssim)) | {"worst": min(result.ssim)},
        "per_clip": {
            "nfe": result.nfe,
            "psnr": [round(value, 3) for value in result.psnr],
            "ssim": [round(value, 5) for value in result.ssim],
        },
    }
    if variant.against:
        if variant.against not in by_name:
            raise ValueError(f"{variant.name} is set against {variant.against}, which did not run")
        difference = paired(result.psnr, by_name[variant.against].psnr)
        row["difference"] = asdict(difference) | {
            "against": variant.against,
            "tie": difference.is_tie,
        }
    return row
