"""The arms: every way to spend fewer network evaluations that the benchmark compares.

To add a method, add a line to `RIVALS`: a name, and a function from a `Setup` to the method, or to
several variants of it where one knob cannot reach all numbers of evaluations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.benchmarks.baselines import (
    Baseline,
    CalibrationRun,
    EasyCache,
    FasterCache,
    FirstBlockCache,
    FirstThenEvery,
    Gated,
    MagCache,
    Planned,
    PyramidAttentionBroadcast,
    SeaCache,
    SenCachePaper,
    TaylorSeer,
    TeaCache,
    UniformSkipping,
    UniformTaylor,
    UnsupportedError,
)
from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import EULER, UNIPC
from sencache import SenCacheConfig, SensitivityProfile

FEWER_STEPS, FEWER_STEPS_BEST, PAPER = "fewer-steps", "fewer-steps-best", "sencache-paper"

GATE = 2
"""Evaluations that a hard clip of the gated arm gets more."""


@dataclass(frozen=True)
class Setup:
    """What a method may be fitted with; nothing of it has seen a clip that is measured.

    Attributes:
        pipe: The pipeline under the sampler that is measured.
        profile: The model's sensitivities under it; None where no arm needs any.
        steps: Steps of the sampler.
        run_calibration: Samples the calibration clips in batches with whatever is on the pipeline,
            for methods that record runs; calls what it is given after every batch.
    """

    pipe: Any
    profile: SensitivityProfile | None
    steps: int
    run_calibration: CalibrationRun


Maker = Callable[[Setup], Sequence[Baseline]]


def _paper(setup: Setup) -> list[Baseline]:
    """SenCache with the paper's n = 3, and with larger n where 3 cannot reach a point."""
    profile = _profile(setup)
    return [SenCachePaper(profile, SenCacheConfig(max_reuse=n)) for n in (3, 5, 13)]


def _planned(**settings: Any) -> Maker:
    return lambda setup: [Planned(_profile(setup), SenCacheConfig(policy="planned", **settings))]


def _gated(setup: Setup) -> list[Baseline]:
    """Plans with a gate: a third of the clips gets two evaluations more, the others one less."""
    config = SenCacheConfig(policy="planned", gate=GATE)
    return [Gated(_profile(setup), setup.pipe, setup.run_calibration, config)]


def _profile(setup: Setup) -> SensitivityProfile:
    if setup.profile is None:
        raise UnsupportedError("no sensitivity profile was measured")
    return setup.profile


def _plain(*variants: Baseline) -> Maker:
    """A method that needs no numbers of the model."""
    return lambda _setup: list(variants)


def _teacache(setup: Setup) -> list[Baseline]:
    """TeaCache, from the first step and with the first five retained."""
    fitted = TeaCache.fitted(setup.pipe, setup.run_calibration)
    return [fitted, dataclasses.replace(fitted, first=5)]


def _magcache(setup: Setup) -> list[Baseline]:
    """MagCache with its published largest skips."""
    fitted = MagCache.fitted(setup.pipe, setup.run_calibration)
    return [dataclasses.replace(fitted, max_skip=skip) for skip in (2, 4)]


def _taylorseer(setup: Setup) -> list[Baseline]:
    """TaylorSeer of diffusers, the last step computed too."""
    return [TaylorSeer(order=order, steps=setup.steps) for order in (1, 2)]


RIVALS: dict[str, Maker] = {
    PAPER: _paper,
    "uniform": _plain(UniformSkipping()),
    "first-then-every": _plain(FirstThenEvery()),
    "uniform-taylor": _plain(UniformTaylor()),
    "teacache": _teacache,
    "magcache": _magcache,
    "easycache": _plain(EasyCache()),
    "first-block-cache": _plain(FirstBlockCache()),
    "taylorseer": _taylorseer,
    "seacache": _plain(SeaCache(), SeaCache(max_consecutive=0)),
    "fastercache": _plain(FasterCache()),
    "pab": _plain(PyramidAttentionBroadcast()),
    "uniform-taylor-2": _plain(UniformTaylor(taylor_order=2)),
    "planned": _planned(),
    "planned-gated": _gated,
    "planned-quadratic": _planned(order=2),
    "planned-unrepaired": _planned(repair=False),
}
"""Arm to what makes its method."""

ABLATIONS = ("uniform-taylor-2", "planned-quadratic", "planned-unrepaired")
"""Arms that only run when they are asked for by name."""

ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, *RIVALS)
FULL_ARMS: tuple[str, ...] = tuple(arm for arm in ARMS if arm not in ABLATIONS)
QUICK_ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, PAPER, "planned")


def best_other_sampler(sampler: str, family: ModelFamily) -> str:
    """The rival sampler of `fewer-steps-best`: UniPC beside Euler, and Euler beside all others.

    Raises:
        UnsupportedError: The family has no second sampler of this kind.
    """
    class_name, _, shift = sampler.partition("/")
    other = UNIPC if class_name == EULER else EULER
    if other not in family.samplers or other == class_name:
        raise UnsupportedError(f"the {family.name} family has no other sampler than {class_name}")
    return f"{other}/{shift}" if shift else other
