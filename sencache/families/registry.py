"""The families that are known, and which of them a transformer belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from sencache.families.base import Family, OfficialSettings
from sencache.families.cogvideox import COGVIDEOX
from sencache.families.hunyuan_video import HUNYUAN_VIDEO
from sencache.families.ltx import LTX
from sencache.families.mochi import MOCHI
from sencache.families.wan import WAN
from sencache.profiles.metadata import Branch

if TYPE_CHECKING:
    import torch

FAMILIES: tuple[Family, ...] = (WAN, COGVIDEOX, LTX, HUNYUAN_VIDEO, MOCHI)
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
