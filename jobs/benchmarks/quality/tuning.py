"""Tunes the parameter of a method until it computes a wanted number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

TOLERANCE = 0.25
"""A point is hit if its NFE differs by at most so many steps."""

MAX_EVALUATIONS = 12
"""Largest number of new measurements per point; those of other points are used again."""


@dataclass(frozen=True)
class TunedParameter:
    """A parameter, and the NFE measured at its values; NFE must not rise with the parameter.

    Attributes:
        measure: Returns the NFE at a value; runs the calibration clips.
        low: Smallest value.
        high: Largest value.
        known: The measured NFE by value.
    """

    measure: Callable[[float], float]
    low: float
    high: float
    known: dict[float, float] = field(default_factory=dict)

    def nfe(self, value: float) -> float:
        """Return the NFE at a value; measure it at most once."""
        if value not in self.known:
            self.known[value] = self.measure(value)
        return self.known[value]

    def find(self, wanted: float) -> tuple[float, float]:
        """Search for a value by bisection.

        Returns:
            The value whose NFE is nearest, and that NFE; of equally near values the smallest.
        """
        budget = len(self.known) + MAX_EVALUATIONS
        for end in (self.low, self.high):
            self.nfe(end)
        while len(self.known) < budget:
            _, nfe = self.nearest(wanted)
            if abs(nfe - wanted) <= TOLERANCE:
                break
            above = max((k for k, n in self.known.items() if n > wanted), default=None)
            below = min((k for k, n in self.known.items() if n < wanted), default=None)
            if above is None or below is None or below <= above:
                break  # out of reach, or not monotonic: bisection does not help
            share = 0.5
            if below < 3 * above:  # so near that the function is about linear
                high, low = self.known[above], self.known[below]
                share = min(0.9, max(0.1, (high - wanted) / (high - low)))
            middle = self._between(above, below, share)
            if not above < middle < below or below - above < 1e-4 * below:
                break  # the function jumps: the point cannot be hit
            self.nfe(middle)
        return self.nearest(wanted)

    def nearest(self, wanted: float) -> tuple[float, float]:
        """Return the measured value whose NFE is nearest to the wanted one, and that NFE."""
        value = min(
            self.known, key=lambda parameter: (abs(self.known[parameter] - wanted), parameter)
        )
        return value, self.known[value]

    def _between(self, one: float, other: float, share: float) -> float:
        """Interpolate on a logarithmic scale: useful values span orders of magnitude."""
        floor = 0.0 if self.low > 0 else 1e-5 * self.high
        start, end = math.log(one + floor), math.log(other + floor)
        return math.exp(start + share * (end - start)) - floor
