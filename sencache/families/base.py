"""What a description of a transformer family consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sencache.profiles.metadata import Branch

# The two ways in which the pipelines of diffusers compute guidance.
TWO_CALLS: Mapping[str, tuple[Branch, ...]] = {"cond": ("cond",), "uncond": ("uncond",)}
ONE_CALL: Mapping[str, tuple[Branch, ...]] = {"cond_uncond": ("uncond", "cond")}

GUIDER_CALLS: Mapping[str, tuple[Branch, ...]] = {
    "pred_cond": ("cond",),
    "pred_uncond": ("uncond",),
    "pred_cond_skip": ("perturbed",),
    "pred_cond_seg": ("perturbed",),
}
"""Calls of pipelines that leave guidance to `pipe.guider`, by the names that the guiders of
diffusers 0.42 give their predictions."""


@dataclass(frozen=True)
class OfficialSettings:
    """Parameters of one public script of the authors (:mod:`sencache.policies.official`).

    Attributes:
        epsilon: Score below which a step is reused, after the strict phase.
        strict_epsilon: The same during the strict phase; not capped by ``epsilon``.
        max_reuse: Most reuses in a row.
        scale: The constant that the script multiplies epsilon by: the root of the number of
            elements that latents have at the script's one resolution.
        calls_per_step: Calls of the network that the script counts per step.
        strict_fraction: Share of the calls that form the strict phase.
        forced_ends: Steps at each end that are computed whatever their score.
        forced_fraction: Share of the steps that is computed at each end in addition.
        residual_end: Module at whose input the reused residual ends; None: after the last block.
    """

    epsilon: float
    strict_epsilon: float
    max_reuse: int
    scale: float
    calls_per_step: int = 1
    strict_fraction: float = 0.2
    forced_ends: int = 0
    forced_fraction: float = 0.0
    residual_end: str | None = None

    def strict_steps(self, num_steps: int, fraction: float) -> int:
        """Steps, from the first, under ``strict_epsilon``: the first call of a step decides.

        Args:
            num_steps: Steps of the run.
            fraction: Share of the calls that form the strict phase.
        """
        calls = round(num_steps * self.calls_per_step * fraction)
        return -(-calls // self.calls_per_step)

    def forced_steps(self, num_steps: int) -> int:
        """Steps at each end that compute; the very first does even where this is 0."""
        return self.forced_ends + round(num_steps * self.forced_fraction)


@dataclass(frozen=True)
class HintBlocks:
    """Blocks beside the main ones, whose output (hints) is added to the tokens between these.

    Attributes:
        blocks: Attribute of the transformer with the list of hint blocks.
        layers: Entry of the transformer's config with the main blocks that a hint is added after.
        control: Position and name of the argument of a hint block that it passes on, changed.
    """

    blocks: str
    layers: str
    control: tuple[int, str]


@dataclass(frozen=True)
class Family:
    """How to read and answer a transformer's forward.

    Attributes:
        name: Name of the family, as stored in profiles.
        classes: Names of the transformer classes; subclasses count too.
        contexts: For each name that pipelines pass to ``cache_context``, the guidance branches
            of that call in the order of its rows: ``("cond",)`` for a call of its own,
            ``("uncond", "cond")`` for both branches in one batch. Names in `unnamed` count too.
        unnamed: Contexts of the calls of one step that a pipeline makes outside of
            ``cache_context``, in their order: ``("cond", "uncond")`` for two calls, the second of
            which is missing without guidance; ``("cond_uncond",)`` for one. Empty where every
            pipeline opens contexts.
        per_row: Arguments that hold one item per row, or several in a row one after another,
            where their leading size is the batch or a multiple of it; also lists of such tensors.
            Any other argument
            (rotary tables, scales, switches) is shared by the rows.
        moving: Arguments beside the latents and the timestep that differ from step to step, such
            as the latents of a sound. All others count as conditions: a change makes the step
            computed.
        latents: Argument that holds the noisy latents, batch first.
        timestep: Argument that holds the timestep: a scalar, [rows] or [rows, tokens].
        clock: What tells the time of a call. "timestep": the argument, in the sampler's unit.
            "sampler": the position of its step in the sampler's schedule, because the pipelines
            hand the network another function of time.
        channel_dim: Dimension of the latents' channels. Channels beyond those the network
            predicts hold a condition (an image, a mask) that does not change while sampling.
        out_channels: Entry of the transformer's config with the number of channels that it
            predicts.
        chunked: Whether pipelines make a clip in chunks, each with timesteps and decisions of its
            own; the statistics of a sample are those of its chunks, one after another.
        time_rises: Whether timesteps rise from noise to clip instead of falling.
        float_latents: Whether all pipelines keep latents in float32 and cast them for the network,
            so that they take outputs in float32 too.
        blocks: Attributes with the lists of blocks that the latents go through, in the order of
            execution. Hint blocks are not among them.
        hints: Blocks that compute hints for these; None where there are none.
        official: Settings of the authors' public script for this family; None without a script.
        official_readme: The settings that the README of the public code recommends instead.
    """

    name: str
    classes: tuple[str, ...]
    contexts: Mapping[str, tuple[Branch, ...]]
    per_row: tuple[str, ...]
    unnamed: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()
    latents: str = "hidden_states"
    timestep: str = "timestep"
    clock: Literal["timestep", "sampler"] = "timestep"
    channel_dim: int = 1
    out_channels: str = "out_channels"
    chunked: bool = False
    time_rises: bool = False
    float_latents: bool = False
    blocks: tuple[str, ...] = ()
    hints: HintBlocks | None = None
    official: OfficialSettings | None = None
    official_readme: OfficialSettings | None = None

    def branches(self, context: str | None) -> tuple[Branch, ...]:
        """Branches of a call, in row order.

        A call without a context counts as one of a loop without guidance, where the family does
        not name it (`unnamed`). The hook then refuses a loop that calls the network twice per step.

        Raises:
            ValueError: The context's name is not one of this family.
        """
        if context is None:
            return ("cond",)
        if context not in self.contexts:
            known = ", ".join(repr(name) for name in self.contexts)
            raise ValueError(
                f"cache_context {context!r} is not one of the {self.name} family ({known})"
            )
        return self.contexts[context]
