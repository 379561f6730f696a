"""The arms: all ways to spend fewer network evaluations that the benchmark compares.

To add a method, add its name to `BASELINES`, with a function that takes a `BaselineSetup` and
returns the method, or several variants if one parameter does not reach all numbers of evaluations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.benchmarks.baselines import (
    Baseline,
    CacheDit,
    CalibrationRun,
    DPCache,
    EasyCache,
    FasterCache,
    FirstBlockCache,
    FirstThenEvery,
    Gated,
    LeMiCa,
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
from jobs.benchmarks.baselines.cache_dit import CALIBRATORS
from jobs.benchmarks.baselines.lemica import Sampling
from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import EULER, UNIPC
from sencache import SenCacheConfig, SensitivityProfile
from sencache.measuring import prediction_of, prior_profile

FEWER_STEPS, FEWER_STEPS_BEST, PAPER = "fewer-steps", "fewer-steps-best", "sencache-paper"

GATE = 2
"""Additional evaluations of a hard clip in the gated arm."""


@dataclass(frozen=True)
class BaselineSetup:
    """What a method may be fitted with. None of it depends on a clip that is measured.

    Attributes:
        pipe: The pipeline under the sampler that is measured.
        profile: The model's sensitivities under it; None if no arm needs them.
        steps: Steps of the sampler.
        run_calibration: Samples the calibration clips in batches with the pipeline as it is, for
            methods that record runs; calls its argument after every batch.
        sampling: Samples the first batch of calibration clips under a method, for methods that
            measure what a schedule does to clips; None where nothing can be sampled.
        own_profile: Measures the profile that a run of the pipeline would measure on its first
            clips; None where that is not compared.
    """

    pipe: Any
    profile: SensitivityProfile | None
    steps: int
    run_calibration: CalibrationRun
    sampling: Sampling | None = None
    own_profile: Callable[[], SensitivityProfile] | None = None


Maker = Callable[[BaselineSetup], Sequence[Baseline]]


def _paper(setup: BaselineSetup) -> list[Baseline]:
    """SenCache with the paper's n = 3, and with larger n for points that 3 cannot reach."""
    profile = _profile(setup)
    return [SenCachePaper(profile, SenCacheConfig(max_reuse=n)) for n in (3, 5, 13)]


def _planned(**settings: Any) -> Maker:
    return lambda setup: [Planned(_profile(setup), SenCacheConfig(policy="planned", **settings))]


def _gated(setup: BaselineSetup) -> list[Baseline]:
    """Plans with a gate: a third of the clips get two more evaluations, the others one less."""
    config = SenCacheConfig(policy="planned", budget=0.34, gate=GATE)
    return [Gated(_profile(setup), setup.pipe, setup.run_calibration, config)]


def _own_planned(setup: BaselineSetup) -> list[Baseline]:
    """Plans from the first clips of a run, as the pipeline makes them for a new model."""
    if setup.own_profile is None:
        raise UnsupportedError("no first clips were measured")
    return [Planned(setup.own_profile(), SenCacheConfig(policy="planned"))]


def _prior_planned(setup: BaselineSetup) -> list[Baseline]:
    """Plans from the profile that the library ships for models that nobody has measured."""
    prior = prior_profile(prediction_of(setup.pipe.scheduler))
    return [Planned(prior, SenCacheConfig(policy="planned"))]


def _profile(setup: BaselineSetup) -> SensitivityProfile:
    if setup.profile is None:
        raise UnsupportedError("no sensitivity profile was measured")
    return setup.profile


def _plain(*variants: Baseline) -> Maker:
    """Wrap methods that need no measurement of the model."""
    return lambda _setup: list(variants)


def _teacache(setup: BaselineSetup) -> list[Baseline]:
    """TeaCache from the first step on, and with the first five steps computed."""
    fitted = TeaCache.fitted(setup.pipe, setup.run_calibration)
    return [fitted, dataclasses.replace(fitted, first=5)]


def _magcache(setup: BaselineSetup) -> list[Baseline]:
    """MagCache with the two published limits of consecutive skips."""
    fitted = MagCache.fitted(setup.pipe, setup.run_calibration)
    return [dataclasses.replace(fitted, max_skip=skip) for skip in (2, 4)]


def _taylorseer(setup: BaselineSetup) -> list[Baseline]:
    """TaylorSeer of diffusers, with the last step computed as well."""
    return [TaylorSeer(order=order, steps=setup.steps) for order in (1, 2)]


def _dpcache(setup: BaselineSetup) -> list[Baseline]:
    """DPCache with the published parabola, and with a line."""
    return [DPCache.fitted(setup.pipe, setup.run_calibration, order) for order in (2, 1)]


def _lemica(setup: BaselineSetup) -> list[Baseline]:
    """LeMiCa with the edges of this pipeline."""
    if setup.sampling is None:
        raise UnsupportedError("LeMiCa needs calibration clips to measure its edges on")
    return [LeMiCa.fitted(setup.sampling, setup.steps)]


def _cache_dit(_setup: BaselineSetup) -> list[Baseline]:
    """cache-dit with each of its calibrators, and without one."""
    return [CacheDit(calibrator) for calibrator in (*CALIBRATORS, "none")]


BASELINES: dict[str, Maker] = {
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
    "dpcache": _dpcache,
    "lemica": _lemica,
    "cache-dit": _cache_dit,
    "planned": _planned(),
    "planned-own": _own_planned,
    "planned-prior": _prior_planned,
    "planned-gated": _gated,
    "planned-quadratic": _planned(order=2),
    "planned-unrepaired": _planned(repair=False),
}
"""The function that makes the method of each arm."""

RIVALS = ("dpcache", "lemica", "cache-dit")
"""The nearest relatives: they need many runs to fit, or a package, and run only by name as well."""

ABLATIONS = (
    *("uniform-taylor-2", "planned-quadratic", "planned-unrepaired"),
    *("planned-own", "planned-prior"),
)
"""Arms that show what a part of a method is worth; they run only if they are given by name."""

ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, *BASELINES)
FULL_ARMS: tuple[str, ...] = tuple(arm for arm in ARMS if arm not in (*ABLATIONS, *RIVALS))
QUICK_ARMS: tuple[str, ...] = (FEWER_STEPS, FEWER_STEPS_BEST, PAPER, "planned")


def best_other_sampler(sampler: str, family: ModelFamily) -> str:
    """Return the sampler of `fewer-steps-best`: UniPC for Euler, and Euler for all others.

    Raises:
        UnsupportedError: The family has no second sampler of this kind.
    """
    class_name, _, shift = sampler.partition("/")
    other = UNIPC if class_name == EULER else EULER
    if other not in family.samplers or other == class_name:
        raise UnsupportedError(f"the {family.name} family has no other sampler than {class_name}")
    return f"{other}/{shift}" if shift else other
