"""Cache schedules whose sums of outputs were fitted on cached runs of calibration clips.

The drift tells which forecast is best where the latents are those of the uncached run. With few
computed steps they are not, and then it errs twice: the network sees wrong latents, and the sums
that would be best for its answers are others. Fitted sums are those that, on cached runs of
calibration clips, lead from one computed step to the next with the smallest mean square error of
the latents. How they are found: `sencache.calibration.fitting`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sencache.profiles.metadata import ProfileError
from sencache.schedules.planner import CacheSchedule
from sencache.schedules.weights import Forecast

SAME_TIME = 1e-4
"""Largest difference of tau, and of a move in units of the largest, between runs that are alike."""


@dataclass(frozen=True, repr=False)
class FittedPlan:
    """A cache schedule with fitted sums, for runs with exactly these steps.

    At a computed step the sampler gets a sum of this output and some before it. It gets the same
    sum at the steps that follow, up to the next computed one.

    Attributes:
        tau: Time of each step of the run, falling, shape [T].
        moves: Of the sampler (:func:`sencache.schedules.sampler_moves.step_moves`), shape [T].
        computed: Steps that the network computes, rising; the first is 0.
        weights: Per computed step, the weights of its own output, last, and of those of the
            computed steps before it.
        error: Relative rms error of the final latents on the clips that the sums were fitted on.

    Raises:
        ProfileError: Values that no plan can have.
    """

    tau: tuple[float, ...]
    moves: tuple[float, ...]
    computed: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    error: float

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in itertools.pairwise(self.computed))
        if len(self.moves) != len(self.tau):
            raise ProfileError("a fitted plan must have one move per step")
        if self.computed[:1] != (0,) or not rises or self.computed[-1] >= len(self.tau):
            raise ProfileError("a fitted plan's computed steps must rise from 0, within the run")
        known = range(1, len(self.computed) + 1)
        if len(self.weights) != len(known) or any(
            not 1 <= len(row) <= most for row, most in zip(self.weights, known, strict=True)
        ):
            raise ProfileError(
                "a fitted plan must have one row of weights per computed step, of the outputs that "
                "are known by then"
            )
        numbers = [self.error, *self.tau, *self.moves, *itertools.chain(*self.weights)]
        if not all(math.isfinite(number) for number in numbers) or self.error < 0:
            raise ProfileError("a fitted plan must have finite numbers, and an error >= 0")

    def __repr__(self) -> str:
        return f"<FittedPlan of {len(self.computed)} of {len(self.tau)} steps>"

    @property
    def order(self) -> int:
        """Outputs before the last one that it needs."""
        return max(len(row) for row in self.weights) - 1

    @property
    def key(self) -> tuple[object, ...]:
        """What tells plans of a profile apart: their runs and their number of computed steps."""
        return (self.tau, self.moves, len(self.computed))

    def is_for(self, times: Sequence[float], moves: Sequence[float]) -> bool:
        """Whether a run has the steps that the plan was fitted on."""
        if len(times) != len(self.tau) or len(moves) != len(self.moves):
            return False
        apart = np.abs(np.array(moves) - np.array(self.moves)).max()
        near = float(np.abs(np.array(times) - np.array(self.tau)).max()) <= SAME_TIME
        return near and float(apart) <= SAME_TIME * max(abs(move) for move in self.moves)

    def schedule(self, error: float) -> CacheSchedule:
        """The cache schedule.

        Args:
            error: Its :attr:`~sencache.schedules.planner.CacheSchedule.error`.
        """
        steps = len(self.tau)
        forecasts: dict[int, Forecast] = {}
        ends = (*self.computed[1:], steps)
        for place, (begin, end) in enumerate(zip(self.computed, ends, strict=True)):
            known = self.computed[: place + 1]
            row = self.weights[place]
            given = Forecast(known[len(known) - len(row) :], row)
            forecasts |= dict.fromkeys(range(begin, end), given)
        return CacheSchedule(steps, self.computed, forecasts, error)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FittedPlan:
        """Read what `dataclasses.asdict` gave, after JSON.

        Raises:
            ProfileError: Values that no plan can have.
            KeyError: Something is missing.
            TypeError: Something has another type.
        """
        return cls(
            tuple(float(t) for t in data["tau"]),
            tuple(float(move) for move in data["moves"]),
            tuple(int(step) for step in data["computed"]),
            tuple(tuple(float(weight) for weight in row) for row in data["weights"]),
            float(data["error"]),
        )
