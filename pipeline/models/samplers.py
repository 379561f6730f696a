"""Samplers by name: `ClassName/shift`, the form in which a request's identity holds them.

A sampler is a diffusers scheduler. Which ones serve a model is said by its family, in
`pipeline.models.families`. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily

EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
DPM_SOLVER = "DPMSolverMultistepScheduler"
LCM = "FlowMatchLCMScheduler"
"""Samplers of flow-matching networks; those of one family only are named in its file."""


TAKE_SIGMAS = (EULER, LCM)
"""Samplers for which a request may list the noise levels; the others remember earlier steps, and
diffusers spaces their levels in ways of its own."""


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


def make_scheduler(
    sampler: str,
    family: ModelFamily,
    saved: Mapping[str, Any],
    sigmas: Sequence[float] = (),
    generators: Sequence[Any] = (),
) -> Any:
    """Build the scheduler that a sampler's name stands for.

    Args:
        sampler: As `sampler_name` writes it.
        family: Of the model.
        saved: Configuration of the scheduler saved with the weights: noise range, prediction type.
        sigmas: Noise levels of the steps, in (0, 1] and falling; empty for the sampler's own. They
            are used as they are: no shift applies to them.
        generators: A `torch.Generator` for each row of the latents. A sampler that draws noise at
            every step draws each row's from its own, so that a row does not depend on its batch.
            Empty leaves the drawing to the pipeline.

    Returns:
        A diffusers scheduler.

    Raises:
        UserError: The sampler does not fit the family, as `check_sampler` tells, or takes no
            sigmas.
    """
    class_name, shift = check_sampler(sampler, family)
    import diffusers

    settings = family.scheduler_settings
    if settings is None:
        settings = _flow_settings(class_name, shift)
    made: type = getattr(diffusers, class_name)
    if sigmas:
        check_takes_sigmas(sampler)
        settings = {**settings, **_UNSHIFTED}
    if sigmas or (generators and class_name == LCM):
        made = type(class_name, (_OfRequest, made), {})
    scheduler: Any = made.from_config(dict(saved), **settings)  # type: ignore[attr-defined]
    if isinstance(scheduler, _OfRequest):
        scheduler.own_sigmas = tuple(sigmas)
        scheduler.row_noise = _RowNoise(generators if class_name == LCM else ())
    return scheduler


def check_takes_sigmas(sampler: str) -> None:
    """Make sure that the noise levels of a sampler can be listed.

    Raises:
        UserError: They cannot, or the sampler's name has a shift, which would move them.
    """
    class_name, _, shift = sampler.partition("/")
    if class_name not in TAKE_SIGMAS:
        raise UserError(
            f"sampler {class_name} takes no list of sigmas: use {' or '.join(TAKE_SIGMAS)}"
        )
    if shift:
        raise UserError(
            f"sigmas are the noise levels themselves, and flow_shift {shift} would move them: "
            "give one of the two"
        )


_UNSHIFTED: dict[str, Any] = {
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
"""Settings with which diffusers 0.42 takes given sigmas as they are."""


class _RowNoise:
    """The generators of the rows of one call. A copy has none: it must not use up their numbers."""

    def __init__(self, generators: Sequence[Any] = ()) -> None:
        self.generators = list(generators)

    def __deepcopy__(self, memo: dict[int, Any]) -> _RowNoise:
        return _RowNoise()


class _OfRequest:
    """What a request adds to a scheduler class of diffusers.

    Wan's pipeline passes no sigmas, and none but CogVideoX's passes generators to a step.
    """

    own_sigmas: tuple[float, ...] = ()
    row_noise = _RowNoise()

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """Set the request's own levels, whatever the pipeline asks for."""
        diffusers_class: Any = super()
        if self.own_sigmas:
            diffusers_class.set_timesteps(sigmas=list(self.own_sigmas), device=device)
            return
        diffusers_class.set_timesteps(
            num_inference_steps, device=device, sigmas=sigmas, mu=mu, timesteps=timesteps
        )

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a step; its noise, if it draws any, comes from the rows' own generators."""
        diffusers_class: Any = super()
        if self.row_noise.generators:
            kwargs["generator"] = self.row_noise.generators
        return diffusers_class.step(*args, **kwargs)


def _flow_settings(class_name: str, shift: float | None) -> dict[str, Any]:
    if class_name in (EULER, LCM):
        return {} if shift is None else {"shift": shift, "use_dynamic_shifting": False}
    # UniPC and DPM-Solver++ were written for other models; this makes them flow samplers.
    flow: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    return flow if shift is None else flow | {"flow_shift": shift}
