"""Turning a method's knob until it computes a wanted number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

TOLERANCE = 0.25
"""Steps of NFE within which a point counts as hit."""

MAX_EVALUATIONS = 12
"""Most measurements per point; what others have measured is used again, free of charge."""


@dataclass(frozen=True)
class TunedParameter:
    """Measurements of a function that falls, or stays, as the knob rises.

    Attributes:
        measure: Knob to NFE; costs a run over the calibration clips.
        low: Least value.
        high: Greatest value.
        known: What has been measured.
    """

    measure: Callable[[float], float]
    low: float
    high: float
    known: dict[float, float] = field(default_factory=dict)

    def nfe(self, value: float) -> float:
        """Measure, at most once per value."""
        if value not in self.known:
            self.known[value] = self.measure(value)
        return self.known[value]

    def find(self, wanted: float) -> tuple[float, float]:
        """Bisect for an NFE.

        Returns:
            The knob whose NFE is nearest, and that NFE; of knobs equally near, the smallest.
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
                break  # out of reach, or not monotonous: nothing to bisect
            share = 0.5
            if below < 3 * above:  # near enough for the function to be about straight
                high, low = self.known[above], self.known[below]
                share = min(0.9, max(0.1, (high - wanted) / (high - low)))
            middle = self._between(above, below, share)
            if not above < middle < below or below - above < 1e-4 * below:
                break  # a jump of the function: the point cannot be hit
            self.nfe(middle)
        return self.nearest(wanted)

    def nearest(self, wanted: float) -> tuple[float, float]:
        """The measured knob whose NFE is nearest to what is wanted, and that NFE."""
        value = min(self.known, key=lambda knob: (abs(self.known[knob] - wanted), knob))
        return value, self.known[value]

    def _between(self, one: float, other: float, share: float) -> float:
        """A share of the way on a logarithmic scale: useful knobs span orders of magnitude."""
        floor = 0.0 if self.low > 0 else 1e-5 * self.high
        start, end = math.log(one + floor), math.log(other + floor)
        return math.exp(start + share * (end - start)) - floor
