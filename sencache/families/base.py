"""What differs between the transformer families of diffusers, one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from diffusers.utils.torch_utils import unwrap_module

from sencache.profiles.metadata import Branch


@dataclass(frozen=True)
class Family:
    """How to read and answer a transformer's forward.

    Attributes:
        name: Name of the family, as stored in profiles.
        classes: Names of the transformer classes; subclasses count too.
        contexts: For each name that pipelines pass to ``cache_context``, the guidance branches
            of that call in the order of its rows: ``("cond",)`` for a call of its own,
            ``("uncond", "cond")`` for both branches in one batch. Empty where the family's
            pipelines open no context.
        per_row: Arguments that hold one item per row, or several in a row one after another,
            where their leading size is the batch or a multiple of it; any other argument
            (rotary tables, scales, switches) is shared by the rows.
        latents: Argument that holds the noisy latents, batch first.
        timestep: Argument that holds the timestep: a scalar, [rows] or [rows, tokens].
        channel_dim: Dimension of the latents' channels. Channels beyond those the network
            predicts hold a condition (an image, a mask) that does not change while sampling.
        time_rises: Whether timesteps rise from noise to clip instead of falling.
        blocks: Attributes with the lists of blocks that the latents go through, in the order of
            execution. Blocks that only make hints for them (VACE) are not among these.
    """

    name: str
    classes: tuple[str, ...]
    contexts: Mapping[str, tuple[Branch, ...]]
    per_row: tuple[str, ...]
    latents: str = "hidden_states"
    timestep: str = "timestep"
    channel_dim: int = 1
    time_rises: bool = False
    blocks: tuple[str, ...] = ()

    def branches(self, context: str | None) -> tuple[Branch, ...]:
        """Branches of a call, in row order.

        A call without a context is taken as one of a loop without guidance; a loop that calls the
        network twice per step without contexts is refused where its calls are judged.

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


# The two ways in which the pipelines of diffusers make guidance.
TWO_CALLS: Mapping[str, tuple[Branch, ...]] = {"cond": ("cond",), "uncond": ("uncond",)}
ONE_CALL: Mapping[str, tuple[Branch, ...]] = {"cond_uncond": ("uncond", "cond")}

WAN = Family(
    name="wan",
    classes=("WanTransformer3DModel", "WanVACETransformer3DModel"),
    contexts={**TWO_CALLS, **ONE_CALL},  # the pipelines make two; a caller may join them
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_hidden_states_image",  # two images per row where a last frame is given too
        "control_hidden_states",  # their scale has one item per layer, not per row
    ),
    blocks=("blocks",),
)

COGVIDEOX = Family(
    name="cogvideox",
    classes=("CogVideoXTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=("hidden_states", "encoder_hidden_states", "timestep", "timestep_cond", "ofs"),
    channel_dim=2,  # frames come first
    blocks=("transformer_blocks",),
)

LTX = Family(
    name="ltx",
    classes=("LTXVideoTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "encoder_attention_mask",
        "video_coords",
    ),
    channel_dim=-1,  # latents are packed to [rows, tokens, channels]
    blocks=("transformer_blocks",),
)

HUNYUAN_VIDEO = Family(
    name="hunyuan_video",
    classes=("HunyuanVideoTransformer3DModel",),
    contexts=TWO_CALLS,  # with true guidance; the image-to-video pipeline opens no context
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_attention_mask",
        "pooled_projections",
        "guidance",
    ),
    blocks=("transformer_blocks", "single_transformer_blocks"),
)

MOCHI = Family(
    name="mochi",
    classes=("MochiTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    time_rises=True,
    blocks=("transformer_blocks",),
)

FAMILIES: tuple[Family, ...] = (WAN, COGVIDEOX, LTX, HUNYUAN_VIDEO, MOCHI)

_registered: dict[str, Family] = {}


class UnknownTransformerError(ValueError):
    """The transformer is of a class that no family lists."""


def register_family(family: Family) -> None:
    """Make a transformer class known, beside those that :data:`FAMILIES` lists.

    A registered class goes before the base classes it is derived from. Registering the same
    family again does nothing. Lasts until the process ends or :func:`unregister_family`.

    Args:
        family: Description of the class, its name not empty.

    Raises:
        ValueError: A class already belongs to another family, or the description is incomplete.
    """
    if not family.name or not family.classes or not all(family.classes):
        raise ValueError("a family needs a name and the names of its transformer classes")
    if family.latents not in family.per_row:
        raise ValueError(
            f"per_row of the {family.name} family must list its latents, {family.latents!r}, "
            "and every other argument that holds one item per row"
        )
    for context, branches in family.contexts.items():
        if not branches or not set(branches) <= set(get_args(Branch)):
            raise ValueError(
                f"context {context!r} of the {family.name} family names the branches "
                f"{branches!r}; it must name 'cond', 'uncond' or both, in the order of the rows"
            )
    known = _by_class()
    for name in family.classes:
        if name in known and known[name] != family:
            raise ValueError(
                f"transformer class {name} already belongs to the {known[name].name} family"
            )
    for name in family.classes:
        if all(name not in builtin.classes for builtin in FAMILIES):
            _registered[name] = family


def unregister_family(family: Family) -> None:
    """Forget a family that was registered; those that :data:`FAMILIES` lists stay known."""
    for name in [name for name, known in _registered.items() if known == family]:
        del _registered[name]


def family_of(transformer: torch.nn.Module) -> Family:
    """The family of a transformer, by the name of its class or of its nearest known base.

    Raises:
        UnknownTransformerError: None of them is known; the message tells how to declare it.
    """
    cls, known = type(unwrap_module(transformer)), _by_class()
    for base in cls.__mro__:
        if base.__name__ in known:
            return known[base.__name__]
    raise UnknownTransformerError(
        f"SenCache does not know the transformer class {cls.__name__}; known: {', '.join(known)}. "
        "Declare its forward first: which arguments hold one item per row, and which branches of "
        "guidance its pipeline computes under which cache_context, for example "
        f'sencache.register_family(Family(name="mine", classes=("{cls.__name__}",), '
        'contexts={"cond": ("cond",), "uncond": ("uncond",)}, '
        'per_row=("hidden_states", "timestep", "encoder_hidden_states")))'
    )


def _by_class() -> dict[str, Family]:
    """Every known family by the names of its classes."""
    return {name: family for family in FAMILIES for name in family.classes} | _registered
