"""How a model is run on a device: what changes its speed and its memory.

Knows names and what fits together, not libraries: `pipeline.models.load` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.models.adapters import Adapter

if TYPE_CHECKING:
    from pipeline.config.sections import Attention, EngineConfig, Offload
    from pipeline.models.spec import ModelSpec
    from pipeline.parallel.layout import ParallelLayout

MASKED: Mapping[str, tuple[str, ...]] = {
    "cogvideox": ("auto", "sdpa"),
    "hunyuan_video": ("auto", "sdpa", "cudnn"),
}
"""Families that not every kernel serves: CogVideoX's attention always asks torch for the kernel,
and HunyuanVideo's comes with a mask of the text, which flash attention takes none of."""

RING = ("auto", "sdpa_flash", "cudnn", "flash")
"""Kernels that also give the logarithm of each softmax's sum, which a ring adds up with."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of an engine; picklable.

    Attributes:
        attention: Kernel of the networks' attention; `auto` leaves the choice to the backend.
        compile: Compile the networks' blocks with torch.compile.
        vae_tiling: Decode in overlapping tiles; None for the model's default.
        vae_slicing: Decode one clip of a batch after the other.
        offload: What waits in host memory until it is needed: whole parts (`model`), or each layer
            (`sequential`).
        adapters: LoRA adapters, in order.
    """

    attention: Attention = "auto"
    compile: bool = False
    vae_tiling: bool | None = None
    vae_slicing: bool = False
    offload: Offload = "none"
    adapters: tuple[Adapter, ...] = ()


DEFAULT = EngineOptions()


def settle_options(
    engine: EngineConfig,
    spec: ModelSpec,
    layout: ParallelLayout,
    device: str,
    adapters: tuple[Adapter, ...] = (),
) -> EngineOptions:
    """Check that a run's settings fit its model, ranks and device.

    Args:
        engine: The run's settings.
        spec: The model.
        layout: How ranks share it.
        device: `cuda` or `cpu`; `auto` while it is not known.
        adapters: From `resolve_adapters`.

    Raises:
        UserError: With what would be right.
    """
    attention = engine.attention
    if attention not in (able := MASKED.get(spec.family, (attention,))):
        raise UserError(
            f"--engine.attention {attention} does not serve {spec.name}: use {', '.join(able)}"
        )
    if layout.ring > 1 and attention not in RING:
        raise UserError(
            f"--engine.attention {attention} does not serve a ring: use {', '.join(RING)}"
        )
    if device == "cpu" and attention not in ("auto", "sdpa"):
        raise UserError(f"--engine.attention {attention} needs a GPU: use auto or sdpa on a CPU")
    if engine.offload != "none":
        if device == "cpu":
            raise UserError(f"--engine.offload {engine.offload} needs a GPU: leave it out")
        if layout.size > 1:
            raise UserError(
                f"--engine.offload {engine.offload} is for one GPU (in each rank of a group it was "
                "never tried, for want of GPUs): leave it out or use --parallel.degree 1"
            )
    return EngineOptions(
        attention,
        engine.compile,
        engine.vae_tiling,
        engine.vae_slicing,
        engine.offload,
        adapters,
    )
