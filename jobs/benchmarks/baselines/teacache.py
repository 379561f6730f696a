"""TeaCache: predicts the change of the output from that of the first block's modulated input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch

from jobs.benchmarks.baselines.base import Decisions, Tunable, UnsupportedError
from jobs.benchmarks.baselines.gating import (
    CallView,
    Rule,
    family_or_refuse,
    gated,
    residual_reuse,
)
from jobs.benchmarks.baselines.modulated import ModulatedInput
from sencache import networks_of
from sencache.extension import KeptOutput, OutputReuse

DEGREE = 4
"""Of the polynomial from input change to output change."""

Signals = Mapping[str, ModulatedInput]


@dataclass(frozen=True)
class TeaCache(Tunable):
    """Refreshes when the summed, rescaled change of the modulated input reaches the threshold.

    Per step the relative L1 change |F_t - F_t+1|_1 / |F_t+1|_1 of the modulated input goes through
    a polynomial of degree 4 and is added up; below the threshold what the blocks added to the
    tokens is reused, else the step computes and the sum starts from 0. The first and the last step
    compute. As in the public code, every call of the network has its own sum (so the two branches
    of Wan have one each, those of a call that holds both share one), here per sample as in a batch
    of one. A polynomial below zero counts as no change, where the public code would subtract it.

    Attributes:
        coefficients: Of the polynomial, highest power first, per network of the pipeline;
            :meth:`fitted` finds them.
        threshold: The knob.
        first: Steps at the start that always compute: 1, or 5 in the public Wan code's
            `use_ret_steps`.
    """

    coefficients: Mapping[str, tuple[float, ...]] = field(repr=False)
    threshold: float = 0.1
    first: int = 1

    name = "teacache"
    source = "TeaCache (arXiv 2411.19108, eq. 6-7), polynomial refitted as in its issue 2"
    low, high = 0.0, 100.0

    @classmethod
    def fitted(cls, pipe: Any, run: Callable[[], object], **settings: Any) -> Self:
        """The method with polynomials of this pipeline.

        As its authors do it: over all steps of uncached runs, the relative L1 change of the
        network's output is fitted by that of the modulated input with `numpy.polyfit`.

        Args:
            pipe: The pipeline, without a cache.
            run: Samples calibration clips with the pipeline, in one call or several.
            settings: Further attributes.

        Raises:
            UnsupportedError: No signal is known for the network, or nothing was run.
        """
        return cls(
            {name: fit(*pair) for name, pair in record_changes(pipe, run).items()}, **settings
        )

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        signals = _signals(pipe)
        missing = signals.keys() - self.coefficients.keys()
        if missing:
            raise UnsupportedError(f"TeaCache was not fitted for {', '.join(sorted(missing))}")
        with gated(pipe, lambda: _Accumulator(self, signals), residual_reuse) as outcome:
            yield outcome


class _Changes:
    """Relative L1 change of a signal from step to step, per sample."""

    def __init__(self) -> None:
        self._before: torch.Tensor | None = None

    def step(self, signal: torch.Tensor) -> list[float] | None:
        """Change since the last step, or None at the first; signal of shape [samples, ...]."""
        signal = signal.float().flatten(1)
        before, self._before = self._before, signal.clone()
        if before is None:
            return None
        change: list[float] = ((signal - before).abs().mean(1) / before.abs().mean(1)).tolist()
        return change


class _Accumulator(Rule):
    def __init__(self, method: TeaCache, signals: Signals) -> None:
        self._method, self._signals = method, signals
        self._changes, self._sums = _Changes(), np.zeros(0)

    def decide(self, view: CallView) -> list[bool]:
        signal = self._signals[view.network](view.call, view.forward)
        changes = self._changes.step(view.by_sample(signal))
        if changes is None or view.step < self._method.first or view.last:
            self._sums = np.zeros(view.samples)
            return [True] * view.samples
        rescaled = np.polyval(self._method.coefficients[view.network], changes)
        self._sums = self._sums + np.maximum(rescaled, 0.0)
        # Not "at least the threshold": a sum that is no number must compute, too.
        computed = ~(self._sums < self._method.threshold)
        self._sums[computed] = 0.0
        return [bool(each) for each in computed]


class _Recorder(Rule):
    """Computes every step and records both changes."""

    def __init__(self, signals: Signals, pairs: dict[str, list[tuple[float, float]]]) -> None:
        self._signals, self._pairs = signals, pairs
        self._inputs, self._outputs = _Changes(), _Changes()
        self._seen: list[float] | None = None

    def decide(self, view: CallView) -> list[bool]:
        signal = self._signals[view.network](view.call, view.forward)
        self._seen = self._inputs.step(view.by_sample(signal))
        return [True] * view.samples

    def learn(self, view: CallView, kept: KeptOutput) -> None:
        outputs = self._outputs.step(view.by_sample(kept.output))
        if self._seen is not None and outputs is not None:
            pairs = self._pairs.setdefault(view.network, [])
            pairs.extend(zip(self._seen, outputs, strict=True))


def record_changes(pipe: Any, run: Callable[[], object]) -> dict[str, tuple[Any, Any]]:
    """Input changes and output changes of uncached runs, per network; each of shape [pairs].

    Raises:
        UnsupportedError: See :meth:`TeaCache.fitted`.
    """
    signals = _signals(pipe)
    pairs: dict[str, list[tuple[float, float]]] = {}
    with gated(pipe, lambda: _Recorder(signals, pairs), lambda _network, _family: OutputReuse()):
        run()
    if pairs.keys() != signals.keys():
        raise UnsupportedError("TeaCache can only be fitted on runs that use every network")
    return {name: (np.array(seen)[:, 0], np.array(seen)[:, 1]) for name, seen in pairs.items()}


def fit(inputs: Any, outputs: Any) -> tuple[float, ...]:
    """Coefficients of the polynomial from input to output change, highest power first."""
    with warnings.catch_warnings():
        # Where the signal is the time alone, a network of few steps has few distinct inputs; of
        # the polynomials through them this is the one with the least coefficients.
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        return tuple(np.polyfit(inputs, outputs, DEGREE).tolist())


def _signals(pipe: Any) -> Signals:
    return {
        name: ModulatedInput(network, family_or_refuse(network))
        for name, network in networks_of(pipe).items()
    }
