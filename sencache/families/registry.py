"""The families that are known, and which of them a transformer belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from sencache.families.base import Family, OfficialSettings
from sencache.families.cogvideox import COGVIDEOX
from sencache.families.cosmos import COSMOS
from sencache.families.helios import HELIOS
from sencache.families.hunyuan_video import FRAMEPACK, HUNYUAN_VIDEO, HUNYUAN_VIDEO_15
from sencache.families.joined import ALLEGRO, ANYFLOW, CONSISID, EASYANIMATE, LATTE, SANA_VIDEO
from sencache.families.kandinsky import KANDINSKY_5, KANDINSKY_6
from sencache.families.ltx import LTX, LTX2
from sencache.families.mochi import MOCHI
from sencache.families.motif import MOTIF_VIDEO
from sencache.families.wan import CHRONOEDIT, SKYREELS_V2, WAN, WAN_ANIMATE
from sencache.profiles.metadata import Branch

if TYPE_CHECKING:
    import torch

FAMILIES: tuple[Family, ...] = (
    WAN,
    CHRONOEDIT,
    SKYREELS_V2,
    WAN_ANIMATE,
    COGVIDEOX,
    LTX,
    LTX2,
    HUNYUAN_VIDEO,
    HUNYUAN_VIDEO_15,
    FRAMEPACK,
    MOCHI,
    KANDINSKY_5,
    KANDINSKY_6,
    COSMOS,
    SANA_VIDEO,
    ALLEGRO,
    EASYANIMATE,
    CONSISID,
    MOTIF_VIDEO,
    LATTE,
    ANYFLOW,
    HELIOS,
)
"""The families that this library describes itself."""

OFFICIAL_SETTINGS: Mapping[str, OfficialSettings] = {
    family.name: family.official for family in FAMILIES if family.official is not None
}
"""Settings of the authors' public scripts by family, with their default parameters."""

_registered: dict[str, Family] = {}


class UnknownTransformerError(ValueError):
    """The transformer is of a class that no family lists."""


def register_family(family: Family) -> None:
    """Make a transformer class known, beside those that :data:`FAMILIES` lists.

    A registered class takes precedence over the base classes it is derived from. Registering the
    same family again does nothing. Lasts until the process ends or :func:`unregister_family`.

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
    lost = [name for name in family.unnamed if name not in family.contexts]
    if lost:
        raise ValueError(
            f"unnamed of the {family.name} family has {lost[0]!r}, which is not one of its contexts"
        )
    for context, branches in family.contexts.items():
        if not branches or not set(branches) <= set(get_args(Branch)):
            raise ValueError(
                f"context {context!r} of the {family.name} family names the branches "
                f"{branches!r}; it must name 'cond', 'uncond' or both, in the order of the rows, "
                "or 'perturbed'"
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
        UnknownTransformerError: None of them is known; the message says how to declare it.
    """
    from diffusers.utils.torch_utils import unwrap_module  # takes seconds; settings do not need it

    cls, known = type(unwrap_module(transformer)), _by_class()
    for base in cls.__mro__:
        if base.__name__ in known:
            return known[base.__name__]
    raise UnknownTransformerError(
        f"SenCache does not know the transformer class {cls.__name__}, so it reuses none of its "
        f'outputs; policy="none" works without. Known: {", ".join(known)}. '
        "Declare its forward first: which arguments hold one item per row, and which branches of "
        "guidance its pipeline computes under which cache_context, for example "
        f'sencache.register_family(Family(name="mine", classes=("{cls.__name__}",), '
        'contexts={"cond": ("cond",), "uncond": ("uncond",)}, '
        'per_row=("hidden_states", "timestep", "encoder_hidden_states")))'
    )


def _by_class() -> dict[str, Family]:
    """Every known family by the names of its classes."""
    return {name: family for family in FAMILIES for name in family.classes} | _registered
