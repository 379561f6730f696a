"""MagCache: predicts the error of reuse from the residual's magnitude, which no prompt changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch

from jobs.benchmarks.baselines.base import Decisions, Tunable, UnsupportedError
from jobs.benchmarks.baselines.gating import CallView, Rule, gated, residual_reuse
from sencache.extension import KeptOutput

Ratios = Mapping[str, tuple[float, ...]]
"""Per cache context ("" outside of one) the ratio of each step's magnitude to the step's before."""


@dataclass(frozen=True)
class MagCache(Tunable):
    """Skips while the summed error |1 - product of ratios| is below the threshold, at most K times.

    With r the residual of the blocks, a step's ratio is the mean over tokens of |r_t| / |r_t-1|.
    The first fifth of the steps computes; the last one need not. Every call of the network has its
    own table and sums, so the branches of Wan may decide apart. Nothing depends on the clip.

    Attributes:
        ratios: Tables; :meth:`fitted` measures them.
        threshold: The knob.
        max_skip: K: most skips in a row. Published: 2 (slow) and 4 (fast) for Wan, up to 6.
        retention: Share of the steps, from the first, that always compute.
    """

    ratios: Ratios = field(repr=False)
    threshold: float = 0.12
    max_skip: int = 4
    retention: float = 0.2

    name = "magcache"
    source = "MagCache (arXiv 2506.09045), as in Zehong-Ma/MagCache for Wan 2.1"
    low, high = 0.0, 100.0

    @classmethod
    def fitted(cls, pipe: Any, run: Callable[[], object], **settings: Any) -> Self:
        """The method with the ratios of this pipeline, averaged over clips.

        The authors take one clip; more clips are not worse.

        Args:
            pipe: The pipeline, without a cache.
            run: Samples calibration clips with the pipeline, in one call or several.
            settings: Further attributes.

        Raises:
            UnsupportedError: The residual of the blocks cannot be read, or nothing was run.
        """
        return cls(measure_ratios(pipe, run), **settings)

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        with gated(pipe, lambda: _Skipper(self), residual_reuse) as outcome:
            yield outcome


class _Skipper(Rule):
    def __init__(self, method: MagCache) -> None:
        self._method = method
        self._product, self._error, self._skips = 1.0, 0.0, 0

    def decide(self, view: CallView) -> list[bool]:
        return [self._computes(view)] * view.samples

    def _computes(self, view: CallView) -> bool:
        if view.context not in self._method.ratios:
            raise UnsupportedError(f"MagCache has no ratios for the context {view.context!r}")
        retained = int(self._method.retention * view.steps + 1e-6)  # for 0.3 of 10 is below 3
        if view.alone or view.step < retained:
            return True
        ratios = resampled(self._method.ratios[view.context], view.steps)
        self._product *= ratios[view.step]
        self._error += abs(1.0 - self._product)
        self._skips += 1
        if self._error < self._method.threshold and self._skips <= self._method.max_skip:
            return False
        self._product, self._error, self._skips = 1.0, 0.0, 0
        return True


class _Meter(Rule):
    """Computes every step and records the ratio of magnitudes."""

    def __init__(self, seen: dict[str, dict[int, list[float]]]) -> None:
        self._seen = seen
        self._steps = 0
        self._before: torch.Tensor | None = None

    def decide(self, view: CallView) -> list[bool]:
        return [True] * view.samples

    def learn(self, view: CallView, kept: KeptOutput) -> None:
        if kept.residual is None:
            raise RuntimeError("the residual was not kept")
        norms = view.by_sample(kept.residual).float().norm(dim=-1).flatten(1)
        ratios = torch.ones(len(norms)) if self._before is None else (norms / self._before).mean(1)
        self._before = norms
        self._seen.setdefault(view.context, {}).setdefault(view.step, []).extend(ratios.tolist())


def measure_ratios(pipe: Any, run: Callable[[], object]) -> Ratios:
    """Ratios of uncached runs, all of the same number of steps.

    The first step, and the first step of another network, have no ratio and count as 1.

    Raises:
        UnsupportedError: See :meth:`MagCache.fitted`.
    """
    seen: dict[str, dict[int, list[float]]] = {}
    with gated(pipe, lambda: _Meter(seen), residual_reuse):
        run()
    if not seen or any(sorted(steps) != list(range(len(steps))) for steps in seen.values()):
        raise UnsupportedError("MagCache can only be fitted on whole runs of the network")
    return {
        context: tuple(float(np.mean(steps[step])) for step in sorted(steps))
        for context, steps in seen.items()
    }


def resampled(ratios: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """The table for another number of steps, from the nearest steps, as published."""
    if len(ratios) == steps:
        return ratios
    places = np.linspace(0, len(ratios) - 1, steps).round().astype(int)
    return tuple(ratios[place] for place in places)
