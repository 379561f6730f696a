"""Runs every arm over every clip, batch by batch, and compares it with both references.

Within a batch the arms take turns; the order rotates from batch to batch, so a drift of the machine
affects all alike. Decoded references are kept for one batch only, so memory does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs.benchmarks.quality.accuracy import judge_clips
from jobs.benchmarks.quality.arms import FEWER_STEPS_BEST
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from jobs.benchmarks.quality.points import OperatingPoint
from jobs.benchmarks.quality.records import ArmRecord
from jobs.benchmarks.quality.references import ReferenceStore
from pipeline.scoring.similarity import psnr, ssim

UNCACHED = "uncached"
TO_UNCACHED, TO_CONVERGED = "uncached", "converged"


@dataclass(frozen=True)
class ReferenceComparison:
    """The references and metrics that clips are compared with.

    Attributes:
        store: Store of converged latents.
        converged_steps: Steps of a converged run.
        lpips: LPIPS of two clips, or None if it is not available.
    """

    store: ReferenceStore
    converged_steps: int
    lpips: Callable[[torch.Tensor, torch.Tensor], float] | None = None

    def compare(
        self,
        record: ArmRecord,
        clips: Sequence[torch.Tensor],
        references: Mapping[str, Sequence[torch.Tensor]],
    ) -> None:
        """Add the distances of clips from each reference to a record."""
        for name, wanted in references.items():
            for clip, reference in zip(clips, wanted, strict=True):
                record.add(name, "psnr", psnr(clip, reference))
                record.add(name, "ssim", ssim(clip, reference))
                if self.lpips is not None:
                    record.add(name, "lpips", self.lpips(clip, reference))


def run_arms(
    batches: Sequence[ClipBatch],
    points: Sequence[OperatingPoint],
    control: DenoisingRun,
    comparison: ReferenceComparison,
    advance: Callable[[int], None],
) -> tuple[ArmRecord, list[ArmRecord]]:
    """Run all arms and compare their clips.

    Args:
        batches: The clips.
        points: Arms at NFE points; a point without a run gets an empty record.
        control: The uncached run.
        comparison: References and metrics.
        advance: Called with the number of steps made so far, summed over clips.

    Returns:
        The record of the uncached run, and one per point.
    """
    uncached = ArmRecord(OperatingPoint(UNCACHED, control.steps, control, f"{control.steps} steps"))
    records = [ArmRecord(point) for point in points]
    made_steps = 0
    batches[0].denoise(
        DenoisingRun(control.sampler, 2)
    )  # warm-up: the first call pays for allocations
    for number, batch in enumerate(batches):
        reference = batch.decode(comparison.store.latents(batch, comparison.converged_steps))
        done = batch.denoise(control)
        frames = batch.decode(done.latents)
        _judge(uncached, batch, frames)
        comparison.compare(uncached, frames, {TO_CONVERGED: reference})
        uncached.nfe += done.nfe
        uncached.seconds.append(done.seconds)
        uncached.control_seconds.append(done.seconds)
        made_steps += len(batch.requests) * control.steps
        advance(made_steps)
        for turn in range(len(records)):
            record = records[(turn + number) % len(records)]
            if record.point.run is None:
                continue
            made = batch.denoise(record.point.run)
            record.nfe += made.nfe
            record.seconds.append(made.seconds)
            record.control_seconds.append(done.seconds)
            clips = batch.decode(made.latents)
            against = {TO_UNCACHED: frames, TO_CONVERGED: reference}
            if record.point.arm == FEWER_STEPS_BEST:
                del against[TO_UNCACHED]  # of another sampler, so not comparable
            comparison.compare(record, clips, against)
            _judge(record, batch, clips)
            made_steps += len(batch.requests) * record.point.wanted
            advance(made_steps)
    return uncached, records


def _judge(record: ArmRecord, batch: ClipBatch, clips: Sequence[Any]) -> None:
    captions = [request.prompt for request in batch.requests]
    for shown in judge_clips(batch.bench.model, captions, clips) or ():
        record.right.append(shown.right)
        record.fit.append(shown.fit)
