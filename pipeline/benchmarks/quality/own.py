"""The policies of this library as arms: SenCache's rule, tuned by its epsilon, and the plan."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sencache import (
    ProfileError,
    ProfileWarning,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)
from sencache.rivals import Decisions, Scheduled, Tunable, UnsupportedError


@dataclass(frozen=True)
class PaperRule(Tunable):
    """The rule of arXiv 2602.24208 with its 20 % of strict steps.

    Attributes:
        profile: Sensitivities of the model.
        config: Its settings; epsilon is the knob.
    """

    profile: SensitivityProfile
    config: SenCacheConfig
    name = "SenCache"
    source = "arXiv 2602.24208, algorithm 1"
    low = 1e-3
    high = 30.0

    def tuned(self, knob: float) -> PaperRule:
        """The same rule with another epsilon."""
        return PaperRule(self.profile, dataclasses.replace(self.config, epsilon=knob))

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the cache on a pipeline."""
        with _cached(pipe, self.config, self.profile) as decisions:
            yield decisions


@dataclass(frozen=True)
class Planned(Scheduled):
    """The plan of exactly so many computed steps, with forecasts between them.

    Attributes:
        profile: Drift of the model's output.
        config: Its settings; the budget is what `budgeted` sets.
    """

    profile: SensitivityProfile
    config: SenCacheConfig
    name = "planned"
    source = "sencache.plan"

    def budgeted(self, computed: int, steps: int) -> Planned:
        """The same plan with another budget."""
        return Planned(self.profile, dataclasses.replace(self.config, budget=computed / steps))

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the cache on a pipeline."""
        with _cached(pipe, self.config, self.profile) as decisions:
            yield decisions


@contextmanager
def _cached(pipe: Any, config: SenCacheConfig, profile: SensitivityProfile) -> Iterator[Decisions]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProfileWarning)  # of other step counts: that is measured
        try:
            handle = apply_sencache(pipe, config, profile)
        except ProfileError as error:
            raise UnsupportedError(str(error)) from error
    try:
        yield lambda: [sample.decisions for sample in handle.stats()]
    finally:
        remove_sencache(pipe)
