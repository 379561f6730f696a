"""How far the network's output drifts over a sampling run: the input of planner and forecasts.

The drift holds D(s, t), the mean square of f(x_s, s) - f(x_t, t) over elements and clips, for all
pairs of steps of uncached runs. It gives the error of any forecast that is a weighted sum of
computed outputs with weights that add up to 1: for weights v that add up to 0 (the forecast less
the truth),

    mean square of sum_i v_i f_i  =  - 1/2 sum_ij v_i v_j D(i, j),

the identity that geostatistics builds kriging on (Matheron 1963, D is twice the variogram). So
the error of a schedule is known without a further run of the network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sencache.profiles.metadata import ProfileError

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, repr=False)
class OutputDrift:
    """Mean square distances between the outputs of the steps of a run.

    Attributes:
        tau: Time of each step, falling, shape [T], T >= 3.
        gain: Factor by which an error of the latents at each step grows until the end of the run,
            shape [T]; 1 where it was not measured.
        distances: D in units of the squared output, shape [T, T], symmetric, 0 on the diagonal.

    Raises:
        ProfileError: Shapes or values that no run can have.
    """

    tau: tuple[float, ...]
    gain: tuple[float, ...]
    distances: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        steps = len(self.tau)
        if steps < 3:
            raise ProfileError(f"drift has {steps} steps; at least 3 are needed")
        if any(later >= earlier for earlier, later in zip(self.tau, self.tau[1:], strict=False)):
            raise ProfileError("drift.tau must fall from step to step")
        rows = {"gain": self.gain}
        rows |= {f"distances[{index}]": row for index, row in enumerate(self.distances)}
        for name, row in rows.items():
            if len(row) != steps or not all(math.isfinite(v) and v >= 0 for v in row):
                raise ProfileError(
                    f"drift.{name} must be {steps} finite numbers >= 0, one per step"
                )
        if len(self.distances) != steps:
            raise ProfileError(f"drift.distances must have {steps} rows, one per step")

    def __repr__(self) -> str:
        return f"<OutputDrift of {self.steps} steps, tau {self.tau[0]:g} to {self.tau[-1]:g}>"

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return len(self.tau)

    @classmethod
    def of_outputs(
        cls, tau: Sequence[float], distances: Array, gain: Sequence[float] | None = None
    ) -> OutputDrift:
        """A drift from measured distances, rounded to the digits that a file keeps.

        Args:
            tau: Time of each step, falling.
            distances: D, shape [T, T]; symmetric but for rounding.
            gain: Of an error made at each step; None where it was not measured.
        """
        values = np.maximum((distances + distances.T) / 2, 0.0)
        np.fill_diagonal(values, 0.0)
        return cls(
            tuple(_rounded(t, 6) for t in tau),
            tuple(_rounded(g, 4) for g in (gain if gain is not None else np.ones(len(tau)))),
            tuple(tuple(_rounded(d, 6) for d in row) for row in values),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputDrift:
        """Read what :meth:`to_json` wrote, parsed.

        Raises:
            ProfileError: Values that no run can have.
            KeyError: Something is missing.
            TypeError: Something has another type.
        """
        triangle = [[float(d) for d in row] for row in data["distances"]]
        full = [[0.0] * len(triangle) for _ in triangle]
        for i, row in enumerate(triangle):
            if len(row) != i:
                raise ProfileError(f"drift.distances[{i}] has {len(row)} values, not {i}")
            for j, value in enumerate(row):
                full[i][j] = full[j][i] = value
        return cls(
            tuple(float(t) for t in data["tau"]),
            tuple(float(g) for g in data["gain"]),
            tuple(tuple(row) for row in full),
        )

    def to_json(self) -> str:
        """As text, one step per line with its distances to the steps before it."""
        rows = ",\n".join(
            f"      {json.dumps(row[:index])}" for index, row in enumerate(self.distances)
        )
        return (
            f'{{\n    "tau": {json.dumps(self.tau)},\n    "gain": {json.dumps(self.gain)},\n'
            f'    "distances": [\n{rows}\n    ]\n  }}'
        )

    def matrix(self) -> Array:
        """D as an array, shape [T, T]."""
        return np.array(self.distances, dtype=np.float64)

    def at(self, tau: Sequence[float]) -> OutputDrift:
        """The drift of a run with other steps, without a new measurement.

        Assumes that the output moves on a straight line between measured times, and continues on
        the outermost line beyond them, so that D stays the distance matrix of real vectors.

        Args:
            tau: Times of the other run, falling.

        Raises:
            ProfileError: Fewer than 3 steps, or times that do not fall.
        """
        if tuple(tau) == self.tau:
            return self
        wanted = np.asarray(tau, dtype=np.float64)
        if (np.diff(wanted) >= 0).any():
            raise ProfileError("the times of the run do not fall from step to step: no plan for it")
        known = np.array(self.tau)
        # Each new output as a weighted sum of measured ones: shape [new, T].
        left = np.clip(np.searchsorted(-known, -wanted, side="right") - 1, 0, self.steps - 2)
        share = (known[left] - wanted) / (known[left] - known[left + 1])
        mix = np.zeros((len(tau), self.steps))
        mix[np.arange(len(tau)), left] = 1 - share
        mix[np.arange(len(tau)), left + 1] += share
        cross = mix @ self.matrix() @ mix.T
        own = np.diag(cross) / 2
        distances = np.maximum(cross - own[:, None] - own[None, :], 0.0)
        np.fill_diagonal(distances, 0.0)
        return OutputDrift(
            tuple(float(t) for t in tau),
            tuple(np.interp(-wanted, -known, self.gain).tolist()),
            tuple(tuple(float(d) for d in row) for row in distances),
        )


def _rounded(value: float, digits: int) -> float:
    """A value of `digits` significant digits; more would be noise."""
    return float(f"{value:.{digits}g}")
