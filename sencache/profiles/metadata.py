"""What a sensitivity profile consists of: points over time, and how they were measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

Branch = Literal["cond", "uncond", "perturbed"]
"""A guidance branch. "perturbed": a call with a part of the network switched off (STG, skipped
layers, isolated modalities), which follows the decisions of cond and which no profile measures."""
TimeAxis = Literal["tau", "sigma"]


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
    """How a profile was measured.

    A profile also applies to other sizes and numbers of steps, because its units are per element.

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
        network_evaluations: Cost of the calibration: rows that went through the network.
        versions: Versions of the libraries that measured it.
        architecture: :func:`architecture_of` the networks, joined by "+" where a pipeline's
            networks differ; "" in files of versions that did not store it.
        inputs: "sampled" if the network saw the latents of sampling runs, "clips" if it saw given
            clips with noise; "run" if the first clips of a run were measured as they were made;
            "prior" if it was measured on other models than it is meant for.
        time: What ``tau`` means in the profile's points and drift. "tau": as above. "sigma": the
            noise level sigma / (alpha + sigma), which is tau in flow matching and does not depend
            on how another sampler counts time (:mod:`sencache.profiles.noise_levels`).
        prediction: What the networks predict, "flow", "v" or "epsilon"; "" where it is not known.
        latents_rms: rms of the final latents of the clips; None where it was not measured.
        basis: What a prior or a run's own profile rests on: models, clips, spreads.
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
    architecture: str = ""
    inputs: str = "sampled"
    time: TimeAxis = "tau"
    prediction: str = ""
    latents_rms: float | None = None
    basis: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unit = self.num_train_timesteps
        if not isinstance(unit, int) or unit < 1:  # tau is divided by it
            raise ProfileError(
                f"metadata.num_train_timesteps is {unit!r}; it must be a whole number >= 1"
            )
        if self.time not in get_args(TimeAxis):
            raise ProfileError(f"metadata.time is {self.time!r}; it must be 'tau' or 'sigma'")

    @property
    def is_prior(self) -> bool:
        """Whether it was measured on other models than it is meant for."""
        return self.inputs == "prior"

    def to_dict(self) -> dict[str, Any]:
        """As plain values; fields of later versions are left out while they are not set."""
        values = asdict(self)
        later: dict[str, Any] = {"time": "tau", "prediction": "", "latents_rms": None, "basis": {}}
        return {name: v for name, v in values.items() if name not in later or v != later[name]}


def architecture_of(transformer: torch.nn.Module) -> str:
    """12 hex digits of SHA-256 over a transformer's public config: its shape, not its weights.

    Leaves out names that begin with "_" (versions, paths) and values of None, so that an option
    that a later version of diffusers adds does not change the hash while it is off.
    """
    from diffusers.utils.torch_utils import unwrap_module  # takes seconds; settings do not need it

    config = unwrap_module(transformer).config
    public = {
        name: value
        for name, value in dict(config if isinstance(config, Mapping) else vars(config)).items()
        if not name.startswith("_") and value is not None
    }
    text = json.dumps(public, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
            if not _is_measure(value):
                raise ProfileError(
                    f"branches.{branch}[{index}].{item.name} is {value!r}; "
                    "it must be a finite number >= 0"
                )
        if index and point.tau >= points[index - 1].tau:
            raise ProfileError(
                f"branches.{branch}[{index}].tau is {point.tau}; tau must fall from point to point"
            )


def _is_measure(value: Any) -> bool:
    """Whether a value is a finite number >= 0 that fits a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:
        return False
