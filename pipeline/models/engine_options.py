"""How a model runs on its device: settings that change speed and memory, checked against the model.

`pipeline.models.load` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.models.adapters import Adapter
from pipeline.models.catalogue.safety_checker import SafetyChecker, check_safety_checker
from pipeline.models.quantisation.quantise import Quantise, check_quantise
from pipeline.tensors.save_choice import settle_save

if TYPE_CHECKING:
    from pipeline.config.sections import Attention, EngineConfig, Offload, StagesConfig
    from pipeline.models.spec import ModelSpec
    from pipeline.parallel.layout import ParallelLayout

RING_KERNELS = ("auto", "sdpa_flash", "cudnn", "flash")
"""Kernels that also return the log-sum-exp of each softmax, which a ring needs to add up parts."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of an engine; picklable.

    Attributes:
        attention: Kernel of the networks' attention; `auto` lets the backend choose.
        compile: Compile the networks' blocks with torch.compile.
        vae_tiling: Decode in overlapping tiles; None for the model's default.
        vae_slicing: Decode one clip of a batch after the other. On an H200 that halves the peak of
            a batch of two and takes no longer (docs/gpu.md).
        offload: What waits in host memory until it is needed: whole parts (`model`) or single
            layers (`sequential`).
        adapters: LoRA adapters, in order.
        quantise: How the weights of the networks are stored.
        safety_checker: Whether a model that checks prompts and clips does so.
        keeps_full: Whether the engine also keeps the networks unquantised, for controls.
        decode_beside: Decode a clip while the next one is sampled.
        save: What is stored beside each clip (`pipeline.tensors.save_choice`).
    """

    attention: Attention = "auto"
    compile: bool = False
    vae_tiling: bool | None = None
    vae_slicing: bool = True
    offload: Offload = "none"
    adapters: tuple[Adapter, ...] = ()
    quantise: Quantise = "none"
    safety_checker: SafetyChecker = "own"
    keeps_full: bool = False
    decode_beside: bool = False
    save: tuple[str, ...] = ()

    def tiles(self, spec: ModelSpec) -> bool:
        """Whether a model decodes in tiles."""
        return spec.tiled if self.vae_tiling is None else self.vae_tiling


DEFAULT = EngineOptions()


def settle_options(
    engine: EngineConfig,
    stages: StagesConfig,
    spec: ModelSpec,
    layout: ParallelLayout,
    device: str,
    adapters: tuple[Adapter, ...] = (),
    *,
    controls: bool = False,
    save: Sequence[str] = (),
) -> EngineOptions:
    """Check that a run's settings fit its model, ranks and device.

    Args:
        engine: The run's settings.
        stages: The run's settings.
        spec: The model.
        layout: How ranks share it.
        device: `cuda` or `cpu`; `auto` while it is not known.
        adapters: From `resolve_adapters`.
        controls: Whether the run makes controls.
        save: What it stores beside its clips.

    Raises:
        UserError: With what would be right.
    """
    attention = engine.attention
    able = spec.family.attention_kernels
    if able and attention not in able:
        raise UserError(
            f"--engine.attention {attention} does not serve {spec.name}: use {', '.join(able)}"
        )
    if layout.ring > 1 and attention not in RING_KERNELS:
        raise UserError(
            f"--engine.attention {attention} does not serve a ring: use {', '.join(RING_KERNELS)}"
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
    _check_quantise(engine, layout, device, controls=controls)
    _check_decode(engine, stages, spec, layout)
    check_safety_checker(engine.safety_checker, spec.name, has_one=spec.pipeline.safety_checker)
    return EngineOptions(
        attention,
        engine.compile,
        engine.vae_tiling,
        engine.vae_slicing,
        engine.offload,
        adapters,
        engine.quantize,
        engine.safety_checker,
        controls and engine.quantize != "none",
        stages.decode == "beside",
        settle_save(save, spec),
    )


def _check_decode(
    engine: EngineConfig, stages: StagesConfig, spec: ModelSpec, layout: ParallelLayout
) -> None:
    """Refuse to decode beside the next clip where the two would disturb each other."""
    if stages.decode == "inline":
        return
    if layout.size > 1:
        raise UserError(
            "--stages.decode beside is for a model on one GPU (the ranks of a group make one call "
            "after the other): leave it out or use --parallel.degree 1"
        )
    if engine.offload != "none":
        raise UserError(
            f"--stages.decode beside does not go with --engine.offload {engine.offload}, which "
            "moves the decoder and the networks in turns: leave one of the two out"
        )
    if spec.pipeline.own_steps:
        raise UserError(
            f"--stages.decode beside does not serve {spec.name}, whose class samples and decodes "
            "in turns: leave it out"
        )


def _check_quantise(
    engine: EngineConfig, layout: ParallelLayout, device: str, *, controls: bool
) -> None:
    """Refuse quantised weights together with what they do not go with."""
    flag = f"--engine.quantize {engine.quantize}"
    check_quantise(engine.quantize, device)
    if engine.quantize == "none":
        return
    if layout.size > 1:
        raise UserError(
            f"{flag} is for a model on one GPU (a split of quantised weights was never tried, for "
            "want of GPUs): leave it out or use --parallel.degree 1"
        )
    if engine.offload == "sequential":
        raise UserError(
            f"{flag} does not go with --engine.offload sequential, which moves single tensors: use "
            "--engine.offload model or leave one of the two out"
        )
    if engine.offload != "none" and controls:
        raise UserError(
            f"{flag} with --engine.offload {engine.offload} has no room for controls, which are "
            "made in full precision: set --control-fraction 0 or leave the offload out"
        )
