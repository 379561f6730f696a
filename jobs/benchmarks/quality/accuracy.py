"""Judges whether clips show what their captions ask for; only the sprite world has a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models.spec import ResolvedModel


@dataclass(frozen=True, slots=True)
class CaptionMatch:
    """How well one clip matches its caption.

    Attributes:
        right: Whether the clip shows everything that the caption asks for.
        fit: Overlap of the outline with the best template, 0..1.
    """

    right: bool
    fit: float


def judge_clips(
    model: ResolvedModel, captions: Sequence[str], clips: Sequence[torch.Tensor]
) -> list[CaptionMatch] | None:
    """Judge clips of shape [frames, 3, size, size] in 0..1.

    Returns:
        None for a model without a judge, and for captions that are not of the sprite world.
    """
    from jobs.benchmarks.demo_model.shapes.catalogue import SPRITE_MODELS

    if model.spec.name not in SPRITE_MODELS:
        return None
    from jobs.benchmarks.demo_model.captions import parse_caption
    from jobs.benchmarks.demo_model.judge import agreement, judge
    from jobs.benchmarks.demo_model.palette import palette_of

    try:
        wanted = [parse_caption(caption) for caption in captions]
    except ValueError:
        return None
    verdicts = judge(
        torch.stack([clip.transpose(0, 1).cpu() * 2 - 1 for clip in clips]),
        palette_of(Path(model.location)),
    )
    return [
        CaptionMatch(agreement(verdict, want)["all"], verdict.fit)
        for verdict, want in zip(verdicts, wanted, strict=True)
    ]
