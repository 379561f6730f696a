"""The authors' public sensitivity files, and their public code's decisions in our units.

The public scripts (``vita-epfl/SenCache``, as of 4bf419b) reuse a step where

    J_x(r) * ||x - x_r||_2 + J_t(r) * |t - t_r|  <  epsilon * SCALE,  t in 0..1000.

SCALE, in each script a constant, is the root of the number of elements that latents have at one
resolution. That is our ``a_x * rms(x - x_r) + a_t * |tau - tau_r| < epsilon`` with
``a_x = J_x * sqrt(elements) / SCALE`` and ``a_t = J_t * num_train_timesteps / SCALE``.

Where that code differs from the paper, read from its source:

* Thresholds. Defaults and README (below) are none of the paper's, and epsilon is the rms change
  of the output at the one resolution that SCALE belongs to. The strict epsilon of the first steps
  is used as it is, also where it is the larger one.
* Comparison. Strict ``<`` where the paper reuses at equality; the cap is the paper's: a reuse
  needs fewer than n in a row before it, and a computed step starts the count again.
* Sensitivities. Taken at r and held, as in the paper; of the nearest stored timestep, the first
  of equals.
* Distances. Against x_r and t_r, as in the paper, never summed over steps; absolute norms, in
  the dtype of the latents, so bfloat16 rounds them to 8 bits.
* First and last steps. Wan forces none: only having no reference makes the first step run, and
  the last may be reused. CogVideoX forces one at each end; LTX two per cent at each end, which is
  none for up to 25 steps.
* Strict phase. A fifth, rounded half to even, of the *calls*: two per step in Wan, so a step of
  which only the first call lies inside is strict.
* What is reused. Not the output but the sum of what the blocks added to the tokens; embeddings
  and head run anew. For LTX that sum goes past the output norm and its modulation, which then
  are not renewed: only the last projection is (:mod:`sencache.reuse.residual`).
* Rows and branches. Row 0 decides for the whole batch, which under guidance is the negative
  prompt's row of CogVideoX and LTX. Wan's unconditional call follows the conditional one and
  keeps its own residual. All sensitivities are of the conditional branch.
* Trajectories. They are told apart by counting calls, so a run that breaks off shifts the next;
  time going up is no sign of a new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from sencache.profiles.metadata import Branch, ProfileError

if TYPE_CHECKING:
    import torch

# The constants of the three scripts; latents of 16x21x60x104, 16x14x60x90 and 128x21x16x24.
SCALES: Mapping[str, float] = {
    "wan": 1447.97790038,
    "cogvideox": 1099.8181667894016,
    "ltx": 1015.9685034488028,
}

# Distances this close are equal: tau in float32 does not give back a whole timestep exactly.
_TIE = 2e-7

# What numpy lets through when a file is no npz, holds objects, or was cut short.
_UNREADABLE = (
    *(ValueError, TypeError, AttributeError, EOFError, UnpicklingError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class OfficialSettings:
    """Parameters of one public script.

    Attributes:
        epsilon: Score that must not be reached, after the strict phase.
        strict_epsilon: The same during the strict phase; not capped by ``epsilon``.
        max_reuse: Most reuses in a row.
        calls_per_step: Calls of the network that the script counts per step.
        strict_fraction: Share of the calls that form the strict phase.
        forced_ends: Steps that compute at each end whatever the score.
        forced_fraction: Share of the steps that do, in addition.
        residual_end: Module at whose input the reused residual ends; None: after the last block.
    """

    epsilon: float
    strict_epsilon: float
    max_reuse: int
    calls_per_step: int = 1
    strict_fraction: float = 0.2
    forced_ends: int = 0
    forced_fraction: float = 0.0
    residual_end: str | None = None

    def strict_steps(self, num_steps: int) -> int:
        """Steps, from the first, under ``strict_epsilon``: their first call decides."""
        calls = round(num_steps * self.calls_per_step * self.strict_fraction)
        return -(-calls // self.calls_per_step)

    def forced_steps(self, num_steps: int) -> int:
        """Steps at each end that compute; the very first does even where this is 0."""
        return self.forced_ends + round(num_steps * self.forced_fraction)


# What the scripts do when no parameter is given ...
OFFICIAL_SETTINGS: Mapping[str, OfficialSettings] = {
    "wan": OfficialSettings(0.07, 0.005, 10, calls_per_step=2),
    "cogvideox": OfficialSettings(0.07, 0.005, 10, forced_ends=1),
    "ltx": OfficialSettings(0.7, 0.01, 4, forced_fraction=0.02, residual_end="proj_out"),
}
# ... and with the parameters of their README, which has them for Wan only (50 steps).
README_SETTINGS: Mapping[str, OfficialSettings] = {
    "wan": OfficialSettings(2.0, 0.045, 3, calls_per_step=2),
}


class NearestCurve:
    """a_x(tau) and a_t(tau) of the nearest stored time, the first stored of equals."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep tau [points], in stored order, and a_x and a_t there, [2, points]."""
        self._tau, self._values = tau, values

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_x and a_t of shape [rows] at tau [rows], on its device; NaN gives NaN."""
        if self._tau.device != tau.device:  # once per device: later calls find the table there
            self._tau, self._values = self._tau.to(tau.device), self._values.to(tau.device)
        distance = (tau[:, None] - self._tau).abs()
        nearest = distance <= distance.amin(1, keepdim=True) + _TIE
        found = self._values[:, nearest.int().argmax(1)]
        a_x, a_t = found.masked_fill(tau.isnan(), math.nan)
        return a_x, a_t


@dataclass(frozen=True)
class OfficialProfile:
    """Sensitivities of an authors' file: stored timesteps and the two norms there.

    Attributes:
        timesteps: In 0..num_train_timesteps and in stored order, which breaks ties.
        j_x: ||change of output|| / ||change of input||.
        j_t: ||change of output|| / |change of timestep|, a norm over the whole latent.
        family: Name of the transformer family; says which script's SCALE holds.
        source: Where the values come from, for messages.
        num_train_timesteps: What timesteps are divided by to get tau.

    Raises:
        ProfileError: No values, lengths that differ, a value that is no finite number >= 0,
            timesteps in another unit, or a family without a public script.
    """

    timesteps: tuple[float, ...]
    j_x: tuple[float, ...]
    j_t: tuple[float, ...]
    family: str
    source: str = ""
    num_train_timesteps: int = 1000

    def __post_init__(self) -> None:
        name = self.source or "profile"
        _require_family(self.family)
        columns = {"timesteps": self.timesteps, "J_x_norm": self.j_x, "J_t_norm": self.j_t}
        for column, values in columns.items():
            if len(values) != len(self.timesteps) or not values:
                raise ProfileError(
                    f"{name} has {len(values)} values of {column} at {len(self.timesteps)} "
                    "timesteps; there must be as many, and at least one"
                )
            for index, value in enumerate(values):
                if not math.isfinite(value) or value < 0:
                    raise ProfileError(
                        f"{name}: {column}[{index}] is {value!r}; it must be a finite number >= 0"
                    )
        if not 1 < max(self.timesteps) <= self.num_train_timesteps:
            raise ProfileError(
                f"{name}: the largest timestep is {max(self.timesteps)}; "
                f"timesteps must be in 0..{self.num_train_timesteps}, not in 0..1"
            )

    @property
    def scale(self) -> float:
        """What the family's script multiplies epsilon by."""
        return SCALES[self.family]

    @property
    def hash(self) -> str:
        """16 hex digits of SHA-256 over all that decides verdicts; the source does not."""
        columns = [list(map(float, column)) for column in (self.timesteps, self.j_x, self.j_t)]
        text = json.dumps(["official", self.num_train_timesteps, self.scale, *columns])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def curve(self, branch: Branch, elements: int) -> NearestCurve:
        """The sensitivities as a function of tau, in our units.

        Args:
            branch: Makes no difference: the files know the conditional branch only.
            elements: Elements of a row's latents, those that rms is taken over.
        """
        del branch
        import torch  # takes seconds; the presets, which need only the numbers above, do not wait

        table = torch.tensor([self.timesteps, self.j_x, self.j_t], dtype=torch.float64)
        units = torch.tensor([math.sqrt(elements), self.num_train_timesteps], dtype=torch.float64)
        values = table[1:] * units[:, None] / self.scale
        return NearestCurve((table[0] / self.num_train_timesteps).float(), values.float())

    @classmethod
    def from_npz(cls, path: str | Path, family: str) -> OfficialProfile:
        """Read a file of the authors, or of one of their writers.

        The readers and the CogVideoX and LTX writers use the keys J_x_norm, J_t_norm, timesteps
        and, the writers, sample_counts. The Wan writer leaves timesteps and, not averaged,
        raw_data of shape (samples, timesteps, 2), J_x first; a measurement that failed is left
        there as two zeros and takes no part in the mean.

        Args:
            path: A local npz file.
            family: Name of the transformer family that it was measured on.

        Raises:
            ProfileError: Not such a file, or values of no use; the message names the file.
            OSError: The file cannot be read.
        """
        _require_family(family)  # before the file is looked for: a typo is told as one
        arrays = _read_arrays(path)
        if "raw_data" in arrays and "J_x_norm" not in arrays:
            arrays |= _means_over_samples(arrays["raw_data"], path)
        keys = ("timesteps", "J_x_norm", "J_t_norm")
        missing = [key for key in keys if key not in arrays]
        if missing:
            found = ", ".join(sorted(arrays)) or "nothing"
            raise ProfileError(f"{path} lacks {', '.join(missing)}; it holds {found}")
        for key in keys:
            if arrays[key].ndim != 1:
                shape = arrays[key].shape
                raise ProfileError(f"{path}: {key} has shape {shape}; it must have one dimension")
        counts = np.atleast_1d(arrays.get("sample_counts", 1.0))
        if not (counts > 0).all():  # the writers turn no samples into a sensitivity of 0
            raise ProfileError(
                f"{path}: timesteps[{int((counts > 0).argmin())}] was never measured: "
                "its sample_counts is 0"
            )
        timesteps, j_x, j_t = (tuple(arrays[key].tolist()) for key in keys)
        return cls(timesteps, j_x, j_t, family, source=str(path))


def _require_family(family: str) -> None:
    if family not in SCALES:
        known = ", ".join(SCALES)
        raise ProfileError(f"no public SenCache script is for the family {family!r} ({known})")


def _read_arrays(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of an npz file as float64."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {key: np.asarray(data[key], dtype=np.float64) for key in data.files}
    except _UNREADABLE as error:
        raise ProfileError(
            f"{path} is not an npz file of numbers, or is damaged: {error}"
        ) from error


def _means_over_samples(
    raw: np.ndarray[Any, Any], path: str | Path
) -> dict[str, np.ndarray[Any, Any]]:
    """J_x and J_t per timestep from single measurements of shape (samples, timesteps, 2)."""
    if raw.ndim != 3 or raw.shape[2] != 2:
        raise ProfileError(
            f"{path}: raw_data has shape {raw.shape}; it must be (samples, timesteps, 2)"
        )
    counts = (raw != 0).any(2).sum(0)
    j_x, j_t = (raw.sum(0) / np.maximum(counts, 1)[:, None]).T
    return {"J_x_norm": j_x, "J_t_norm": j_t, "sample_counts": counts}
