"""The interface of all ways of skipping network evaluations, so that they can be compared.

A method is put on a pipeline for some calls and removed again; the caller makes the calls. Knows
nothing of prompts, metrics or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Decisions = Callable[[], list[str]]
"""Per sample of the latest pipeline call one character per step: C computed, R reused.

Where the guidance branches decide for themselves, these are the conditional branch's decisions.
:func:`nfe_of` also counts the other branch, and the parts of a step that run although it is reused.
"""


@dataclass(frozen=True)
class BaselineResult:
    """Decisions with their cost, where that is not the number of C.

    Attributes:
        decisions: See :data:`Decisions`.
        work: Per sample the network evaluations that the latest call amounts to, in steps.
    """

    decisions: Decisions
    work: Callable[[], list[float]]

    def __call__(self) -> list[str]:
        """The decisions."""
        return self.decisions()


def nfe_of(decisions: Decisions) -> list[float]:
    """Per sample of the latest call: network evaluations in steps, fractions included."""
    if isinstance(decisions, BaselineResult):
        return decisions.work()
    return [float(each.count("C")) for each in decisions()]


class Baseline(ABC):
    """A method with all its parameters fixed.

    Attributes:
        name: Short name of the method, such as "TeaCache"; the same for every knob value.
        source: Where the formula comes from: paper and equation, or library and version.
    """

    name: str
    source: str

    @abstractmethod
    def applied(self, pipe: Any) -> AbstractContextManager[Decisions]:
        """Put the method on a pipeline.

        Leaves no trace when the context ends, also after an error.

        Args:
            pipe: A diffusers pipeline that carries no cache.

        Raises:
            UnsupportedError: The method cannot run on this pipeline's network or sampler.
        """


class Tunable(Baseline):
    """A method whose number of network evaluations is set by one knob.

    Attributes:
        low, high: Range of the knob. Evaluations fall, or stay, as the knob rises.
    """

    low: float
    high: float

    @abstractmethod
    def tuned(self, knob: float) -> Baseline:
        """The same method with another value of its knob."""


class Scheduled(Baseline):
    """A method that computes an exact number of steps."""

    @abstractmethod
    def budgeted(self, computed: int, steps: int) -> Baseline:
        """The same method with `computed` of `steps` steps.

        Raises:
            UnsupportedError: It has no schedule of exactly that number.
        """


class UnsupportedError(ValueError):
    """A method cannot run here; the message says why."""
