"""Samplers by name: `ClassName/shift`, the form in which a request's identity holds them.

A sampler is a diffusers scheduler. Which ones serve a model is said by its family, in
`pipeline.models.families`. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily

EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
DPM_SOLVER = "DPMSolverMultistepScheduler"
"""Samplers of flow-matching networks; those of one family only are named in its file."""


def sampler_name(class_name: str, shift: float | None) -> str:
    """Write a scheduler and its flow shift as one string; without a shift the class alone."""
    return class_name if shift is None else f"{class_name}/{float(shift)}"


def check_sampler(sampler: str, family: ModelFamily) -> tuple[str, float | None]:
    """Split a sampler's name into class and shift.

    Raises:
        UserError: The class does not fit the family, or takes no shift.
    """
    class_name, _, text = sampler.partition("/")
    allowed = family.samplers
    if class_name not in allowed:
        raise UserError(
            f"sampler {class_name!r} does not fit the {family.name} family: "
            f"use {' or '.join(allowed)}"
        )
    if text and family.scheduler_settings is not None:
        raise UserError(f"sampler {class_name} takes no flow shift: leave flow_shift out")
    return class_name, float(text) if text else None


def make_scheduler(sampler: str, family: ModelFamily, saved: Mapping[str, Any]) -> Any:
    """Build the scheduler that a sampler's name stands for.

    Args:
        sampler: As `sampler_name` writes it.
        family: Of the model.
        saved: Configuration of the scheduler saved with the weights: noise range, prediction type.

    Returns:
        A diffusers scheduler.

    Raises:
        UserError: The sampler does not fit the family, as `check_sampler` tells.
    """
    class_name, shift = check_sampler(sampler, family)
    import diffusers

    settings = family.scheduler_settings
    if settings is None:
        settings = _flow_settings(class_name, shift)
    return getattr(diffusers, class_name).from_config(dict(saved), **settings)


def _flow_settings(class_name: str, shift: float | None) -> dict[str, Any]:
    if class_name == EULER:
        return {} if shift is None else {"shift": shift, "use_dynamic_shifting": False}
    # UniPC and DPM-Solver++ were written for other models; this makes them flow samplers.
    flow: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    return flow if shift is None else flow | {"flow_shift": shift}
