"""The numbers of an arm: cost, accuracy, distance to the uncached teacher, diversity."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jobs.benchmarks.distilled.measure import ArmClips
from jobs.benchmarks.quality.intervals import interval, worst_decile

_SAME_DB = 100.0
"""PSNR of two equal clips, in place of infinity."""


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One line of the table.

    Attributes:
        arm: Its name.
        clips: How many.
        nfe: Computed steps of a clip, mean.
        calls: Evaluations of the network for a clip, both branches of guidance counted, mean.
        cpu_s: CPU seconds a clip.
        dollars_per_1000: Of 1,000 clips.
        right: Share of clips that show all that their caption asks for.
        fit: Overlap of outlines with the nearest shape, mean over clips.
        worst_fit: The same over the worst tenth of the clips.
        psnr: To the uncached clip of the same seed, dB, mean over clips.
        psnr_half: Half of its 95 % interval.
        worst_psnr: Of the worst tenth of the clips.
        diversity: As in `diversity`.
    """

    arm: str
    clips: int
    nfe: float
    calls: float
    cpu_s: float
    dollars_per_1000: float
    right: float
    fit: float
    worst_fit: float
    psnr: float
    psnr_half: float
    worst_psnr: float
    diversity: float


def summary(record: ArmClips, uncached: ArmClips, price: float) -> ArmSummary:
    """Summarise an arm.

    Args:
        record: Its clips.
        uncached: Those of the uncached teacher, of the same captions and seeds.
        price: $ per hour of a core.
    """
    clips = len(record.frames)
    nfe = statistics.fmean(record.nfe)
    cpu_s = record.cpu_s / clips
    fits = [match.fit for match in record.matches]
    against = [psnr(a, b) for a, b in zip(record.frames, uncached.frames, strict=True)]
    distance = interval(against)
    return ArmSummary(
        arm=record.arm.name,
        clips=clips,
        nfe=nfe,
        calls=nfe * record.arm.branches,
        cpu_s=cpu_s,
        dollars_per_1000=1000 * cpu_s * price / 3600,
        right=statistics.fmean(match.right for match in record.matches),
        fit=statistics.fmean(fits),
        worst_fit=worst_decile(fits),
        psnr=distance.mean,
        psnr_half=distance.half,
        worst_psnr=worst_decile(against),
        diversity=diversity(record.frames, record.arm.seeds),
    )


def psnr(clip: torch.Tensor, other: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of two clips in 0..1, dB."""
    error = float((clip - other).square().mean())
    return min(_SAME_DB, -10 * math.log10(error)) if error else _SAME_DB


def diversity(clips: Sequence[torch.Tensor], seeds: int) -> float:
    """Mean distance of two clips of one caption, over all pairs and captions.

    Args:
        clips: In 0..1; clips of one caption are neighbours.
        seeds: Clips of each caption.

    Returns:
        Root of the mean square difference of pixels, averaged over pairs.
    """
    distances = []
    for first in range(0, len(clips), seeds):
        of_caption = clips[first : first + seeds]
        distances += [
            float((a - b).square().mean().sqrt()) for a, b in itertools.combinations(of_caption, 2)
        ]
    return statistics.fmean(distances)
