"""Samplers by name: `ClassName/shift`, the form in which a request's identity holds them.

Knows which diffusers schedulers fit which model family and which settings the authors of the
models give them. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError


def sampler_name(class_name: str, shift: float | None) -> str:
    """Write a scheduler and its flow shift as one string; without a shift the class alone."""
    return class_name if shift is None else f"{class_name}/{float(shift)}"


def check_sampler(sampler: str, family: str) -> tuple[str, float | None]:
    """Split a sampler's name into class and shift.

    Raises:
        UserError: The class does not fit the family, or takes no shift.
    """
    class_name, _, text = sampler.partition("/")
    allowed = SAMPLERS[family]
    if class_name not in allowed:
        raise UserError(
            f"sampler {class_name!r} does not fit the {family} family: use {' or '.join(allowed)}"
        )
    if text and class_name in (COG_DDIM, COG_DPM):
        raise UserError(f"sampler {class_name} takes no flow shift: leave flow_shift out")
    return class_name, float(text) if text else None


def make_scheduler(sampler: str, family: str, saved: Mapping[str, Any]) -> Any:
    """Build the scheduler that a sampler's name stands for.

    Args:
        sampler: As `sampler_name` writes it.
        family: Transformer family of the model.
        saved: Configuration of the scheduler saved with the weights: noise range, prediction type.

    Returns:
        A diffusers scheduler.

    Raises:
        UserError: See `check_sampler`.
    """
    class_name, shift = check_sampler(sampler, family)
    import diffusers

    settings = _settings(class_name, shift)
    return getattr(diffusers, class_name).from_config(dict(saved), **settings)


def _settings(class_name: str, shift: float | None) -> dict[str, Any]:
    if class_name in (COG_DDIM, COG_DPM):
        # Trained with zero terminal SNR: the first step must be the last timestep.
        return {"timestep_spacing": "trailing"}
    if class_name == EULER:
        return {} if shift is None else {"shift": shift, "use_dynamic_shifting": False}
    # UniPC and DPM-Solver++ were written for other models; this makes them flow samplers.
    flow: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    return flow if shift is None else flow | {"flow_shift": shift}


EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
DPM_SOLVER = "DPMSolverMultistepScheduler"
COG_DDIM = "CogVideoXDDIMScheduler"
COG_DPM = "CogVideoXDPMScheduler"

SAMPLERS: dict[str, tuple[str, ...]] = {
    "wan": (UNIPC, EULER, DPM_SOLVER),
    "cogvideox": (COG_DDIM, COG_DPM),
    "ltx": (EULER,),
    "hunyuan_video": (EULER,),
}
"""Scheduler classes that predict what a family's network was trained to give. One network
evaluation per step each, which the step counts of a row rely on (Heun would be two)."""

RANDOM_SAMPLERS = frozenset({COG_DPM})
"""Those of them that draw noise at every step: what an output does in the end cannot be told, so
no plan can be made for them. A test holds this to `sencache.step_moves`, which needs diffusers."""
