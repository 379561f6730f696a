"""Makes the clips of all arms, batch by batch in turn, and judges them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from rich.console import Console

from jobs.benchmarks.distilled.arms import MODEL, DistilledArm
from jobs.benchmarks.quality.accuracy import CaptionMatch, judge_clips
from pipeline.engine.factory import engine_factory
from pipeline.engine.protocol import Engine
from pipeline.models.resolve import resolve_model

ROWS = 4
"""Clips per engine call."""


@dataclass
class ArmClips:
    """What an arm made.

    Attributes:
        arm: The arm.
        frames: One clip each, [frames, 3, height, width] in 0..1.
        nfe: Computed steps of each clip.
        matches: How well each shows its caption.
        cpu_s: CPU seconds of the engine's calls: text, denoising and decoding.
    """

    arm: DistilledArm
    frames: list[torch.Tensor] = field(default_factory=list)
    nfe: list[int] = field(default_factory=list)
    matches: list[CaptionMatch] = field(default_factory=list)
    cpu_s: float = 0.0


def measure(arms: Sequence[DistilledArm], console: Console) -> list[ArmClips]:
    """Make and judge all clips.

    Arms take turns within every batch, and the arm that begins changes from batch to batch. Time is
    CPU time of this process: with one thread it is what a clip takes on a core of its own.

    Args:
        arms: The arms; they share captions and seeds.
        console: Says how far it is.
    """
    model = resolve_model(MODEL)
    engines = _engines(arms)
    records = [ArmClips(arm) for arm in arms]
    for record in records:  # the first call of an engine loads kernels
        engines[record.arm.name].generate(record.arm.requests[:1])
    count = len(arms[0].requests)
    for turn, start in enumerate(range(0, count, ROWS)):
        for position in range(len(records)):
            record = records[(position + turn) % len(records)]
            requests = record.arm.requests[start : start + ROWS]
            before = time.process_time()
            clips = engines[record.arm.name].generate(requests)
            record.cpu_s += time.process_time() - before
            frames = [
                torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255 for clip in clips
            ]
            record.frames += frames
            record.nfe += [int(clip.cache["nfe"]) for clip in clips]
            captions = [request.prompt for request in requests]
            record.matches += judge_clips(model, captions, frames) or []
        console.log(f"{min(start + ROWS, count)}/{count} clips of every arm")
    return records


def _engines(arms: Sequence[DistilledArm]) -> Mapping[str, Engine]:
    """One engine for all arms with the same weights, by the arm's name."""
    model = resolve_model(MODEL)
    made: dict[tuple[str, ...], Engine] = {}
    # An engine of a cached arm holds the profile, and serves uncached arms as well.
    for arm in sorted(arms, key=lambda arm: arm.config.cache.policy == "none"):
        adapters = tuple(arm.config.engine.adapters)
        if adapters not in made:
            made[adapters] = engine_factory(arm.config, model)()
    return {arm.name: made[tuple(arm.config.engine.adapters)] for arm in arms}
