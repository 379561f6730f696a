"""Which GPUs hold a model, and how long a clip takes there: an answer for cards without a price.

Seconds and memory are estimates (`pipeline.report.pricing.cost_model`). Where a model does not fit
as it is, the first settings are named that make it fit; they cost time, which is not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.memory.cards import TIGHT, TIGHT_NOTE
from pipeline.report.pricing.cost_model import (
    DEVICES,
    NetworkShape,
    clip_cost,
    memory_bytes,
)
from pipeline.report.pricing.offers import Kind, evaluations

_OFFLOAD, _TILES, _INT8 = "--engine.offload model", "--engine.vae-tiling", "--engine.quantize int8"

SAVERS: Mapping[str, EngineOptions] = {
    "": DEFAULT,
    _TILES: EngineOptions(vae_tiling=True),
    _OFFLOAD: EngineOptions(offload="model"),
    f"{_OFFLOAD} {_TILES}": EngineOptions(offload="model", vae_tiling=True),
    f"{_OFFLOAD} {_INT8}": EngineOptions(offload="model", quantise="int8"),
    f"{_OFFLOAD} {_INT8} {_TILES}": EngineOptions(
        offload="model", quantise="int8", vae_tiling=True
    ),
}
"""Flags that save memory and what they set, from what costs least."""


@dataclass(frozen=True, slots=True)
class CardFit:
    """Whether one GPU holds a model at a size.

    Attributes:
        flags: What makes it fit: "" where nothing is needed, None where nothing known helps.
        is_tight: It fits with so little to spare that it may fail.
        seconds: Of a clip at each budget; empty unless it fits without flags.
    """

    flags: str | None
    is_tight: bool = False
    seconds: tuple[float, ...] = ()


def fit(network: NetworkShape, size: str, gpu: str, budgets: Sequence[float]) -> CardFit:
    """Find how a model at a size fits one GPU."""
    room = DEVICES[gpu].memory_bytes
    needs = {
        flags: memory_bytes(network, size, 1, "planned", options)
        for flags, options in SAVERS.items()
    }
    flags = next((flags for flags, needed in needs.items() if needed <= room), None)
    if flags is None:
        return CardFit(None)
    is_tight = needs[flags] > TIGHT * room
    if flags:
        return CardFit(flags, is_tight)
    cost = clip_cost(network, size, gpu)
    seconds = (cost.fixed_s + evaluations(budget) * cost.evaluation_s for budget in budgets)
    return CardFit("", is_tight, tuple(seconds))


def markdown(kinds: Sequence[Kind], budgets: Sequence[float]) -> list[str]:
    """Return the lines of a table of all known GPUs as Markdown, and how to read it."""
    needs = [memory_bytes(*kind, 1, "planned") / 1e9 for kind in kinds]
    names = [
        f"{network.name} {size}: needs {need:.1f} GB"
        for (network, size), need in zip(kinds, needs, strict=True)
    ]
    columns = ["GPU", "GB", *names]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for gpu in sorted(DEVICES, key=lambda name: DEVICES[name].memory_bytes):
        cells = [gpu, f"{DEVICES[gpu].memory_bytes / 1e9:.1f}"]
        cells += [_cell(fit(*kind, gpu, budgets)) for kind in kinds]
        lines.append("| " + " | ".join(cells) + " |")
    counts = " / ".join(str(evaluations(budget)) for budget in budgets)
    return [
        *lines,
        "",
        f"Seconds of a clip on one GPU at {counts} evaluations, estimated as above. tight: "
        f"{TIGHT_NOTE}. with: fits with these flags, which cost time; tiles also leave faint "
        "seams.",
    ]


def _cell(found: CardFit) -> str:
    if found.flags is None:
        return "does not fit"
    text = f"with {found.flags}"
    if not found.flags:
        text = " / ".join(f"{seconds:.0f}" for seconds in found.seconds) + " s"
    return f"{text}, tight" if found.is_tight else text
