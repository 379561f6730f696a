"""This library's own policies as rivals, so that a harness treats them like all others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from sencache.apply import apply_sencache, remove_sencache
from sencache.config import SenCacheConfig
from sencache.families import UnknownTransformerError
from sencache.judging import AnyProfile
from sencache.measurement import ProfileError
from sencache.profile import ProfileWarning, SensitivityProfile
from sencache.rivals.base import Decisions, Rival, Tunable, UnsupportedError


@dataclass(frozen=True)
class AnySenCache(Rival):
    """Any policy of this library, with all its settings.

    Attributes:
        config: Its settings.
        profile: What it decides with; None where nothing is reused.
        name: Shown in tables.
    """

    config: SenCacheConfig
    profile: AnyProfile | None = None
    name: str = "sencache"

    source = "this library"

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """See :class:`Rival`."""
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

    The cap acts long before epsilon does, so numbers of evaluations below that of the cap need a
    larger `n`; the paper publishes 2 and 3.

    Attributes:
        profile: Sensitivities of the model.
        n: Most reuses in a row.
        epsilon: The knob: largest predicted rms change of the output that is reused.
    """

    profile: SensitivityProfile
    n: int = 3
    epsilon: float = 0.1

    name = "sencache-paper"
    source = "SenCache (arXiv 2602.24208, algorithm 1), sencache.apply_sencache"
    low, high = 0.0, 100.0

    @property
    def config(self) -> SenCacheConfig:
        """The settings of the cache."""
        return SenCacheConfig(policy="paper", epsilon=self.epsilon, max_reuse=self.n)

    def tuned(self, knob: float) -> Self:
        """See :class:`Tunable`."""
        return replace(self, epsilon=knob)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """See :class:`Rival`."""
        with AnySenCache(self.config, self.profile).applied(pipe) as decisions:
            yield decisions
