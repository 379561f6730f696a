"""What a sensitivity profile consists of: points measured over time, and how they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch

Branch = Literal["cond", "uncond"]


class ProfileError(ValueError):
    """A profile cannot be read, or was measured on another model than the one that runs."""


@dataclass(frozen=True)
class SensitivityPoint:
    """Sensitivities of one branch at one step, over the clips of a calibration.

    Attributes:
        tau: Time, timestep / num_train_timesteps, in [0, 1].
        a_x: Mean of rms(change of output) / rms(change of input); has no unit.
        a_x_spread: Standard deviation of a_x over clips.
        a_t: Mean of rms(change of output) / |change of tau|; in units of the output.
        a_t_spread: Standard deviation of a_t over clips.
    """

    tau: float
    a_x: float
    a_x_spread: float
    a_t: float
    a_t_spread: float


@dataclass(frozen=True)
class ProfileMetadata:
    """Where a profile comes from. Size and steps are facts, not limits: units are per element.

    Attributes:
        model: Id of the model, as the weights' hub or folder name.
        revision: Revision of the weights; "" when they have none.
        family: Name of the transformer family (:mod:`sencache.families`).
        sampler: Class name of the scheduler.
        shift: Flow shift of the sigma schedule; None where the sampler has none.
        num_train_timesteps: What timesteps are divided by to get tau.
        num_inference_steps: Steps of the calibration runs.
        guidance_scale: Guidance scale of the calibration runs; None if the pipeline has none.
        height, width, num_frames: Size of the clips, in pixels and frames; None if not known.
        dtype: Dtype of the network's input, such as "bfloat16".
        num_clips: Clips the means were taken over.
        network_evaluations: Cost of the calibration, one per row of a forward.
        versions: Versions of the libraries that measured it.
    """

    model: str
    revision: str
    family: str
    sampler: str
    shift: float | None
    num_train_timesteps: int
    num_inference_steps: int
    guidance_scale: float | None
    height: int | None
    width: int | None
    num_frames: int | None
    dtype: str
    num_clips: int
    network_evaluations: int
    versions: Mapping[str, str] = field(default_factory=dict)


def sampler_facts(scheduler: Any) -> dict[str, Any]:
    """Sampler, shift and unit of time of a diffusers scheduler, as named in the metadata."""
    config = scheduler.config
    shift = config.get("flow_shift", config.get("shift"))
    return {
        "sampler": type(scheduler).__name__,
        "shift": None if shift is None else float(shift),
        "num_train_timesteps": int(config["num_train_timesteps"]),
    }


def dtype_name(dtype: torch.dtype) -> str:
    """Name without the library: torch.bfloat16 is "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def check_points(branch: str, points: tuple[SensitivityPoint, ...]) -> None:
    """Raise ProfileError unless a branch's points can be interpolated over time."""
    if len(points) < 2:
        raise ProfileError(f"branches.{branch} has {len(points)} points; at least 2 are needed")
    for index, point in enumerate(points):
        for item in fields(point):
            value = getattr(point, item.name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ProfileError(
                    f"branches.{branch}[{index}].{item.name} is {value!r}; "
                    "it must be a finite number >= 0"
                )
        if index and point.tau >= points[index - 1].tau:
            raise ProfileError(
                f"branches.{branch}[{index}].tau is {point.tau}; tau must fall from point to point"
            )
