"""This library's own policies as baselines, so that a benchmark treats them like all others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from jobs.benchmarks.baselines.base import (
    Baseline,
    Decisions,
    Scheduled,
    Tunable,
    UnsupportedError,
)
from sencache import (
    ProfileError,
    ProfileWarning,
    SenCacheConfig,
    SensitivityProfile,
    UnknownTransformerError,
    apply_sencache,
    remove_sencache,
)
from sencache.extension import AnyProfile, gate_ratio

CalibrationRun = Callable[..., None]
"""Samples calibration clips in batches with the pipeline as it is; calls its argument, if there is
one, after every batch."""

NO_HARD_ROW = 1e9
"""Ratio of forecast errors that no row is above."""


@dataclass(frozen=True)
class AnySenCache(Baseline):
    """Any policy of this library, with all its settings.

    Attributes:
        config: Its settings.
        profile: What it decides with; None where nothing is reused.
        name: Shown in tables.
        source: Likewise.
    """

    config: SenCacheConfig
    profile: AnyProfile | None = None
    name: str = "sencache"
    source: str = "this library"

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        with warnings.catch_warnings():
            # Other step counts and samplers than the profile's are what comparisons are about.
            warnings.simplefilter("ignore", ProfileWarning)
            try:
                handle = apply_sencache(pipe, self.config, self.profile)
            except (ProfileError, UnknownTransformerError) as error:
                raise UnsupportedError(str(error)) from error
            try:
                yield lambda: [sample.decisions for sample in handle.stats()]
            finally:
                remove_sencache(pipe)


@dataclass(frozen=True)
class SenCachePaper(Tunable):
    """SenCache as its paper has it: a strict fifth, then epsilon; at most n reuses in a row.

    The cap takes effect long before epsilon, so numbers of evaluations below that of the cap need a
    larger `config.max_reuse`; the paper publishes 2 and 3.

    Attributes:
        profile: Sensitivities of the model.
        config: Its settings; the knob is epsilon, the largest predicted rms change of the output
            that is reused.
    """

    profile: SensitivityProfile
    config: SenCacheConfig = field(default_factory=SenCacheConfig)

    name = "sencache-paper"
    source = "SenCache (arXiv 2602.24208, algorithm 1), sencache.apply_sencache"
    low, high = 0.0, 100.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, config=replace(self.config, epsilon=knob))

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        with AnySenCache(self.config, self.profile).applied(pipe) as decisions:
            yield decisions


@dataclass(frozen=True)
class Planned(Scheduled):
    """The best cache schedule of an exact number of computed steps, with forecasts between them.

    Attributes:
        profile: Drift of the model's output.
        config: Its settings; the budget is what `budgeted` sets.
    """

    profile: SensitivityProfile
    config: SenCacheConfig = field(default_factory=lambda: SenCacheConfig(policy="planned"))

    name = "planned"
    source = "sencache.schedules.planner"

    def budgeted(self, computed: int, steps: int) -> Self:
        """The same method with `computed` of `steps` steps."""
        return replace(self, config=replace(self.config, budget=computed / steps))

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        with AnySenCache(self.config, self.profile).applied(pipe) as decisions:
            yield decisions


@dataclass(frozen=True)
class Gated(Scheduled):
    """Cache schedules with a gate whose ratio is fitted on calibration clips.

    The ratio is the quantile of the clips' forecast errors at the gate that makes one clip in
    `config.gate + 1` a hard one, so that the mean number of evaluations is the budget.

    Attributes:
        profile: Drift of the model's output.
        pipe: The pipeline that `run_calibration` samples with.
        run_calibration: See :data:`CalibrationRun`.
        config: Its settings; budget and ratio are what `budgeted` sets.
    """

    profile: SensitivityProfile
    pipe: Any
    run_calibration: CalibrationRun
    config: SenCacheConfig

    name = "planned-gated"
    source = "sencache.schedules.planner, sencache.policies.gated"

    def budgeted(self, computed: int, steps: int) -> AnySenCache:
        """The same method with `computed` of `steps` steps; runs the calibration clips once."""
        config = replace(self.config, budget=computed / steps)
        all_easy = replace(config, gate_ratio=NO_HARD_ROW)
        ratios: list[float] = []
        with ExitStack() as applied:
            applied.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", ProfileWarning)  # as in AnySenCache
            try:
                handle = apply_sencache(self.pipe, all_easy, self.profile)
            except (ValueError, UnknownTransformerError) as error:
                raise UnsupportedError(str(error)) from error
            applied.callback(remove_sencache, self.pipe)
            try:
                self.run_calibration(lambda: ratios.extend(map(gate_ratio, handle.stats())))
            except ValueError as error:  # no room for a gate in this budget
                raise UnsupportedError(str(error)) from error
        ratio = float(np.quantile(ratios, 1 - 1 / (config.gate + 1)))
        return AnySenCache(replace(config, gate_ratio=ratio), self.profile, self.name, self.source)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline, with the ratio of the settings, which `budgeted` fits."""
        with AnySenCache(self.config, self.profile).applied(pipe) as decisions:
            yield decisions
