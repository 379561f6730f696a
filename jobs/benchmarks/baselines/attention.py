"""The caches of diffusers 0.42 that reuse attention rather than steps, unchanged.

They never skip a whole step, so all their decisions are C, and only
:func:`~jobs.benchmarks.baselines.nfe_of` says how many full steps their work amounts to. They keep
one state per module, which the two calls of a guided step (Wan, HunyuanVideo) would overwrite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from diffusers import FasterCacheConfig, PyramidAttentionBroadcastConfig

from jobs.benchmarks.baselines.base import UnsupportedError
from jobs.benchmarks.baselines.in_diffusers import InDiffusers
from sencache import Family
from sencache.extension import ONE_CALL


class _OneState(InDiffusers):
    """A cache with one state per module, which therefore needs both branches in one call."""

    attention = True

    def check(self, context: str, branches: int) -> None:
        """Refuse calls of the unconditional branch alone."""
        if context == "uncond":
            raise UnsupportedError(
                f"{self.name} of diffusers keeps one state per module, which the two calls of a "
                "guided step would take from each other"
            )


@dataclass(frozen=True)
class FasterCache(_OneState):
    """Approximates attention between refreshes, and with one-call guidance the unconditional rows.

    Only at the default timesteps of diffusers, below 641 and 681 of 1000. Where a family has no
    unconditional rows, the cache approximates attention alone, and the interval applies to that.

    Attributes:
        interval: The knob, rounded: steps from one computed unconditional branch to the next.
        attention_interval: The same for the attention of the conditional branch.
    """

    interval: float = 5.0
    attention_interval: int = 2

    name = "fastercache"
    source = "FasterCache (arXiv 2410.19355), diffusers 0.42 FasterCacheConfig"
    low, high = 1.0, 50.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, interval=knob)

    def check(self, context: str, branches: int) -> None:
        """Refuse what one state per module, or a split into branches, cannot do."""
        super().check(context, branches)
        if context in ONE_CALL and branches == 1:
            raise UnsupportedError("fastercache of diffusers takes half of the rows for guidance")

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        distilled = family.contexts != ONE_CALL
        formats = {"cogvideox": "BFCHW", "mochi": "BCFHW"}
        if not distilled and family.name not in formats:
            raise UnsupportedError(
                f"FasterCache of diffusers knows no packed latents, as those of {family.name} are"
            )
        every = max(1, round(self.interval))
        return FasterCacheConfig(
            spatial_attention_block_skip_range=every if distilled else self.attention_interval,
            unconditional_batch_skip_range=every,
            attention_weight_callback=lambda _module: 0.5,  # the default, said without a warning
            tensor_format=formats.get(family.name, "BCFHW"),
            is_guidance_distilled=distilled,
            current_timestep_callback=lambda: pipe.current_timestep,
        )


@dataclass(frozen=True)
class PyramidAttentionBroadcast(_OneState):
    """Reuses the output of attention between refreshes, cross-attention for three times as long.

    Only between timesteps 100 and 800 of 1000, the defaults of diffusers.

    Attributes:
        interval: The knob, rounded: steps from one computed self-attention to the next.
        cross: Times as long that cross-attention is reused; the paper has 2, 4, 6 for spatial,
            temporal and cross-attention.
    """

    interval: float = 2.0
    cross: int = 3

    name = "pab"
    source = "Pyramid Attention Broadcast (arXiv 2408.12588), diffusers 0.42"
    low, high = 1.0, 50.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, interval=knob)

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        every = max(1, round(self.interval))
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=every,
            cross_attention_block_skip_range=every if every == 1 else every * self.cross,
            current_timestep_callback=lambda: pipe.current_timestep,
        )
