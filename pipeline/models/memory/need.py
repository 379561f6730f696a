"""What a rank needs of its device: weights, sampling, decoding and text encoding, in GB.

Peaks of live tensors come from fake tensors (`jobs/benchmarks/memory`), for each model at a few
sizes; between sizes they are straight lines. They were compared with an H200 (docs/gpu.md): the
peak of sampling is theirs within 4 %, and that of decoding 1.16 times theirs, because cuDNN has a
workspace. A GB has 10^9 bytes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.memory.cards import CARDS, cards_that_hold
from pipeline.models.spec import ModelSpec
from pipeline.parallel.layout import ALONE, ParallelLayout

FIGURES = Path(__file__).parent / "figures.json"

DECODE_WORKSPACE = 1.16
"""Measured peak of a decode over that of its live tensors: 1.162 at 480p, 1.156 at 720p."""

SAMPLING_WORKSPACE = 1.04
"""The same for a forward of the network at most: 1.04 for 1.3B at 480p, 1.00 for 14B at 720p."""

CONTEXT_GB = 0.6
"""CUDA's context, cuBLAS and the kernels of one process: assumed."""

FILLING_TOKENS = 32_760
"""Tokens of one clip of Wan at 480p."""

MOST_ROWS = 8
"""Most clips in a call by itself: all of them are lost with the call, and wait for its end."""

TILE = 256
"""Side of a tile of every VAE of the registry, pixels."""

_STORED = {"none": 1.0, "int8": 0.52, "fp8": 0.52, "nf4": 0.28}
"""Bytes of a quantised network over those of two bytes per weight, with scales and what stays."""

_GB = 1e9


@dataclass(frozen=True, slots=True)
class Workload:
    """The largest call that an engine has to make.

    Attributes:
        width: Pixels.
        height: Pixels.
        num_frames: Frames.
        rows: Clips in one call.
        guided: Whether guidance makes two branches.
    """

    width: int
    height: int
    num_frames: int
    rows: int = 1
    guided: bool = True

    def __str__(self) -> str:
        rows = f", batch {self.rows}" if self.rows > 1 else ""
        return f"{self.width}x{self.height}x{self.num_frames}{rows}"


@dataclass(frozen=True, slots=True)
class CachedOutputs:
    """What the cache keeps of each branch of a clip.

    Attributes:
        outputs: Outputs of the network, in its type.
        latents: Latents of the last computed step, once for both branches.
        residual: Whether it keeps the tokens of a step too.
    """

    outputs: int = 0
    latents: int = 0
    residual: bool = False


KEPT = {"none": CachedOutputs(), "paper": CachedOutputs(1, 1), "planned": CachedOutputs(2)}
"""By policy; a planned run keeps one output more for each order of forecasts above the first."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What one rank needs, in GB.

    Attributes:
        weights: Of each part: `networks`, `text`, `vae`, `image`.
        sampling: Peak of a step above the weights, with what the cache keeps.
        decode: Peak of decoding above the weights.
        text: Peak of encoding a text above the weights.
        offload: What waits in host memory.
        networks: Networks that share the weights of `networks`; offloading moves one at a time.
        decode_beside: One clip is decoded while another is sampled.
    """

    weights: Mapping[str, float]
    sampling: float
    decode: float
    text: float
    offload: str = "none"
    networks: int = 1
    decode_beside: bool = False

    @property
    def total(self) -> float:
        """What the device must hold."""
        own = self.weights
        text = self.text if "text" in own else 0.0
        if self.offload == "none":
            peak = max(self.sampling, self.decode, text)
            if self.decode_beside:
                peak = self.decode + max(self.sampling, text)
            return CONTEXT_GB + sum(own.values()) + peak
        networks = 0.0 if self.offload == "sequential" else own["networks"] / self.networks
        alone = 0.0 if self.offload == "sequential" else own.get("text", 0.0)
        return CONTEXT_GB + max(networks + self.sampling, own["vae"] + self.decode, alone + text)

    def __str__(self) -> str:
        parts = f"weights {sum(self.weights.values()):.1f}, sampling {self.sampling:.1f}"
        return f"{self.total:.1f} GB ({parts}, decoding {self.decode:.1f})"


@functools.cache
def figures() -> dict[str, dict[str, Any]]:
    """The measured figures of each model, in bytes."""
    read: dict[str, dict[str, Any]] = json.loads(FIGURES.read_text())
    return read


def memory_need(
    spec: ModelSpec,
    work: Workload,
    policy: str = "planned",
    *,
    order: int = 1,
    residual: bool = False,
    layout: ParallelLayout = ALONE,
    options: EngineOptions = DEFAULT,
    parts: str = "all",
) -> MemoryNeed | None:
    """Estimate what one rank needs; None for a model without figures.

    Args:
        spec: The model.
        work: The largest call.
        policy: Of the cache.
        order: Of the forecasts of a planned run.
        residual: Whether reused steps keep the tokens of a step.
        layout: Ranks share the tokens of a clip, and neither weights nor, unless `vae` is set, the
            decoder's work. An estimate: no split was measured.
        options: Of the engine.
        parts: What the rank loads, as in `ResolvedModel`.
    """
    own = figures().get(spec.name)
    if own is None:
        return None
    held = {name: size / _GB for name, size in own["weights"].items()}
    held["networks"] *= _STORED[options.quantise]
    if parts in ("clips", "networks"):
        held.pop("text")
    return MemoryNeed(
        held,
        (_sampling(own, work, layout) + _kept(own, work, policy, order, residual, layout)) / _GB,
        _decoding(own, work, options.tiles(spec), layout) / _GB,
        own["text_row"] * work.rows / _GB,
        options.offload,
        own["networks"],
        options.decode_beside,
    )


def filling_rows(spec: ModelSpec, work: Workload, **settings: Any) -> int:
    """Clips in one call that fill a GPU without needing a larger one.

    One clip of Wan 1.3B at 480p fills an H200: two took twice as long (docs/gpu.md). So a call gets
    as many clips as have the tokens of that one, and no more than fit on the smallest card that
    holds a single clip.

    Args:
        spec: The model.
        work: The largest clip of the run; its `rows` are not read.
        settings: Further arguments of `memory_need`.
    """
    own = figures().get(spec.name)
    if own is None:
        return spec.batch_rows
    branches = own["guidance_rows"] if work.guided else 1
    rows = min(MOST_ROWS, FILLING_TOKENS // (branches * tokens(own, work)))

    def total(count: int) -> float:
        need = memory_need(spec, replace(work, rows=count), **settings)
        return need.total if need else 0.0

    fits, _ = cards_that_hold(total(1))
    while rows > 1 and fits and total(rows) > CARDS[fits[0]]:
        rows -= 1
    return max(1, rows)


def tokens(own: Mapping[str, Any], work: Workload) -> int:
    """Video tokens of one clip in the network."""
    time, space = own["token_stride"]
    frames = 1 + (work.num_frames - 1) // time
    return frames * (work.height // space) * (work.width // space)


def _sampling(own: Mapping[str, Any], work: Workload, layout: ParallelLayout) -> float:
    """Bytes of one call of the network above its weights."""
    branches = own["guidance_rows"] if work.guided else 1
    if layout.cfg > 1:
        branches = 1
    per_row, per_token = own["sampling"]
    share = tokens(own, work) / layout.sequence
    return SAMPLING_WORKSPACE * work.rows * branches * (per_row + per_token * share)


def _kept(
    own: Mapping[str, Any],
    work: Workload,
    policy: str,
    order: int,
    residual: bool,
    layout: ParallelLayout,
) -> float:
    """Bytes that the cache keeps between steps."""
    kept = KEPT[policy]
    branches = 2 if work.guided and not own["distilled"] and layout.cfg == 1 else 1
    outputs = kept.outputs + (max(0, order - 1) if policy == "planned" else 0)
    latents = own["latent_values"] * tokens(own, work) * 2
    total = latents * (outputs * branches + kept.latents)
    if residual:
        total += tokens(own, work) / layout.sequence * own["width"] * 2 * branches
    return float(total * work.rows)


def _decoding(own: Mapping[str, Any], work: Workload, tiled: bool, layout: ParallelLayout) -> float:
    """Bytes of decoding one clip, and of the frames of all clips of the call."""
    per_pixel, per_pixel_frame, value = own["decode"]
    frames, pixels = work.num_frames, work.width * work.height
    video = 3 * value * pixels * frames
    others = video * (work.rows - 1)
    if not tiled or pixels <= TILE * TILE:
        share = layout.size if layout.vae else 1
        return DECODE_WORKSPACE * pixels * (per_pixel + per_pixel_frame * frames) / share + others
    if own["tile_frames"]:
        frames = min(frames, own["tile_frames"])
    tile = DECODE_WORKSPACE * TILE * TILE * (per_pixel + per_pixel_frame * frames)
    # All tiles are kept until the last one: strides of three quarters in each direction. Then the
    # clip is put together from them, and copied once or twice on the way to pixels.
    tiles = own["tile_overlap"] * video
    return max(tile + tiles, tiles + 3 * video) + others
