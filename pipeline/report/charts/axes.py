"""Axes of charts: where a value lies, which values get a tick, and how a tick is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
"""Distances of ticks, times a power of ten."""


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: Value at its beginning.
        high: Value at its end; larger than `low`.
        step: Distance of two ticks.
    """

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, low: float, high: float, *, whole: bool = False, most: int = 6) -> Axis:
        """An axis from one value to another.

        Args:
            low: Its beginning.
            high: Its end. An axis without extent gets some.
            whole: Whether values are whole numbers, so that no tick lies between two of them.
            most: Most ticks.
        """
        if not high > low:
            low, high = low - (0.5 if whole else abs(low) or 1), high + (0.5 if whole else 1)
        least = (high - low) / most
        power = 10.0 ** math.floor(math.log10(least))
        step = next(each * power for each in STEPS if each * power >= least * (1 - 1e-9))
        return cls(low, high, max(1.0, step) if whole else step)

    @classmethod
    def from_zero(cls, high: float, *, whole: bool = False, most: int = 5) -> Axis:
        """An axis from zero to the first tick at or above a value."""
        axis = cls.over(0.0, high if high > 0 else 1.0, whole=whole, most=most)
        return cls(0.0, axis.step * math.ceil(axis.high / axis.step - 1e-9), axis.step)

    @property
    def ticks(self) -> list[float]:
        """The values that get a tick, in order."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [number * self.step for number in range(first, last + 1)]

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the beginning, 1 at the end."""
        return (value - self.low) / (self.high - self.low)

    def text(self, value: float) -> str:
        """A tick as text, with the decimals that tell it from its neighbours."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return f"{value:,.{decimals}f}" if decimals < 6 else f"{value:.2g}"
