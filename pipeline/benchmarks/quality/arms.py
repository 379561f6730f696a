"""The arms: every way to spend fewer network evaluations that the benchmark compares.

To add a method, add a line to `RIVALS`: a name, and a function from a `Setup` to the method, or to
several variants of it where one knob cannot reach all numbers of evaluations. Classes of
`sencache.rivals` are looked up when they are needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.models.registry import EULER, SAMPLERS, UNIPC
from sencache import SenCacheConfig, SensitivityProfile
from sencache.rivals import Rival, UnsupportedError

FEWER_STEPS, FEWER_STEPS_BEST, PAPER = "fewer-steps", "fewer-steps-best", "sencache-paper"


@dataclass(frozen=True)
class Setup:
    """What a method may be fitted with; nothing of it has seen a clip that is measured.

    Attributes:
        pipe: The pipeline under the sampler that is measured.
        profile: The model's sensitivities under it; None where no arm needs any.
        steps: Steps of the sampler.
        run_calibration: Samples the calibration clips in batches with whatever is on the pipeline,
            for methods that record runs.
    """

    pipe: Any
    profile: SensitivityProfile | None
    steps: int
    run_calibration: Callable[[], None]


Maker = Callable[[Setup], Sequence[Rival]]


def _paper(setup: Setup) -> list[Rival]:
    """SenCache with the paper's n = 3, and with larger n where 3 cannot reach a point."""
    from pipeline.benchmarks.quality.own import PaperRule

    profile = _profile(setup)
    return [PaperRule(profile, SenCacheConfig(max_reuse=n)) for n in (3, 5, 8, 13, 20)]


def _planned(**settings: Any) -> Maker:
    def make(setup: Setup) -> list[Rival]:
        from pipeline.benchmarks.quality.own import Planned

        return [Planned(_profile(setup), SenCacheConfig(policy="planned", **settings))]

    return make


def _profile(setup: Setup) -> SensitivityProfile:
    if setup.profile is None:
        raise UnsupportedError("no sensitivity profile was measured")
    return setup.profile


def _plain(class_name: str, **settings: Any) -> Maker:
    """A method that needs nothing but its class and settings."""
    return lambda setup: [_rival(class_name)(**settings)]


def _rival(class_name: str) -> Any:
    try:
        return getattr(importlib.import_module("sencache.rivals"), class_name)
    except AttributeError:
        raise UnsupportedError(f"sencache.rivals has no {class_name}") from None


def _fitted(class_name: str, *variants: dict[str, Any]) -> Maker:
    """A method with numbers of its own, taken from the calibration runs."""
    return lambda setup: [
        _rival(class_name).fitted(setup.pipe, setup.run_calibration, **settings)
        for settings in variants or ({},)
    ]


RIVALS: dict[str, Maker] = {
    PAPER: _paper,
    "uniform": _plain("UniformSkipping"),
    "first-then-every": _plain("FirstThenEvery"),
    "uniform-taylor": _plain("UniformTaylor"),
    "teacache": _fitted("TeaCache"),
    "magcache": _fitted("MagCache", *({"max_skip": k} for k in (2, 4, 6))),
    "easycache": _plain("EasyCache"),
    "first-block-cache": _plain("FirstBlockCache"),
    "seacache": _plain("SeaCache"),
    "uniform-taylor-2": _plain("UniformTaylor", taylor_order=2),
    "planned": _planned(),
    "planned-quadratic": _planned(order=2),
    "planned-unrepaired": _planned(repair=False),
}
"""Arm to what makes its method."""

ABLATIONS = ("uniform-taylor-2", "planned-quadratic", "planned-unrepaired")
"""Arms that only run when they are asked for by name."""

ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, *RIVALS)
FULL_ARMS: tuple[str, ...] = tuple(arm for arm in ARMS if arm not in ABLATIONS)
QUICK_ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, PAPER, "planned")


def best_other_sampler(sampler: str, family: str) -> str:
    """The rival sampler of `fewer-steps-best`: UniPC beside Euler, and Euler beside all others.

    Raises:
        UnsupportedError: The family has no second sampler of this kind.
    """
    class_name, _, shift = sampler.partition("/")
    other = UNIPC if class_name == EULER else EULER
    if other not in SAMPLERS[family] or other == class_name:
        raise UnsupportedError(f"the {family} family has no other sampler than {class_name}")
    return f"{other}/{shift}" if shift else other
