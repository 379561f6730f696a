"""The samplers that a comparison runs under, by the short names of `--sampler`."""

from __future__ import annotations

from pipeline.errors import UserError
from pipeline.models.families import cogvideox
from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import DPM_SOLVER, EULER, LCM, UNIPC

BOTH = "both"

SHORT_NAMES = {
    "euler": EULER,
    "unipc": UNIPC,
    "dpm-solver": DPM_SOLVER,
    "lcm": LCM,
    "ddim": cogvideox.DDIM,
    "dpm": cogvideox.DPM,
}
"""Scheduler classes by short name; any other class of a family goes by its own."""


def samplers_for(wanted: str, own: str, family: ModelFamily) -> list[str]:
    """Return samplers by the names of `pipeline.models.samplers`.

    Args:
        wanted: A short name, a scheduler class, or `both`: Euler and UniPC where the family has
            them; without Euler, the model's own sampler in its place.
        own: Sampler of the model's own settings; its shift is that of all.
        family: The model's family.

    Raises:
        UserError: The family has no such sampler.
    """
    class_name, slash, shift = own.partition("/")
    if wanted == BOTH:
        first = EULER if EULER in family.samplers else class_name
        second = [UNIPC] if UNIPC in family.samplers and first != UNIPC else []
        found = [first, *second]
    else:
        found = [SHORT_NAMES.get(wanted, wanted)]
    if found[0] not in family.samplers:
        short = {name: given for given, name in SHORT_NAMES.items()}
        known = ", ".join(short.get(name, name) for name in family.samplers)
        raise UserError(
            f"--sampler {wanted}: the {family.name} family has {known}; give one of them"
        )
    return [f"{name}{slash}{shift}" for name in found]
