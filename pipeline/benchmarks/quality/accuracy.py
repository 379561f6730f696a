"""Does a clip show what its caption asks for? Only the demonstration model has a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Shown:
    """What the judge says of one clip.

    Attributes:
        right: Whether everything is as the caption asks.
        fit: Overlap of the outline with the best template, 0..1.
    """

    right: bool
    fit: float


def judge_clips(
    model: str, captions: Sequence[str], clips: Sequence[torch.Tensor]
) -> list[Shown] | None:
    """Judge clips of shape [frames, 3, size, size] in 0..1; None for a model without a judge."""
    if model != "demo":
        return None
    from pipeline.models.demo.captions import parse_caption
    from pipeline.models.demo.judge import agreement, judge

    verdicts = judge(torch.stack([clip.transpose(0, 1).cpu() * 2 - 1 for clip in clips]))
    return [
        Shown(agreement(verdict, parse_caption(caption))["all"], verdict.fit)
        for verdict, caption in zip(verdicts, captions, strict=True)
    ]
