"""The authors' public sensitivity files, read into this library's units.

The public scripts (``vita-epfl/SenCache``, as of 4bf419b) reuse a step where

    J_x(r) * ||x - x_r||_2 + J_t(r) * |t - t_r|  <  epsilon * SCALE,  t in 0..1000.

SCALE, in each script a constant, is the root of the number of elements that latents have at one
resolution. That is our ``a_x * rms(x - x_r) + a_t * |tau - tau_r| < epsilon`` with
``a_x = J_x * sqrt(elements) / SCALE`` and ``a_t = J_t * num_train_timesteps / SCALE``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.profiles.metadata import Branch, ProfileError

if TYPE_CHECKING:
    from sencache.profiles.interpolation import NearestCurve

# What numpy raises when a file is no npz, holds objects, or was cut short.
_UNREADABLE = (
    *(ValueError, TypeError, AttributeError, EOFError, UnpicklingError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class OfficialProfile:
    """Sensitivities of an authors' file: stored timesteps and the two norms there.

    Attributes:
        timesteps: In 0..num_train_timesteps, in stored order: the first of two equally near counts.
        j_x: ||change of output|| / ||change of input||.
        j_t: ||change of output|| / |change of timestep|, a norm over the whole latent.
        family: Name of the transformer family, which decides whose SCALE applies.
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
        """The constant that the family's script multiplies epsilon by."""
        return OFFICIAL_SETTINGS[self.family].scale

    @property
    def hash(self) -> str:
        """16 hex digits of SHA-256 over the values that decide verdicts."""
        columns = [list(map(float, column)) for column in (self.timesteps, self.j_x, self.j_t)]
        text = json.dumps(["official", self.num_train_timesteps, self.scale, *columns])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def curve(self, branch: Branch, elements: int) -> NearestCurve:
        """The sensitivities as a function of tau, in our units; the same object for equal sizes.

        Args:
            branch: Ignored: the files hold the conditional branch only.
            elements: Elements of a row's latents, those that rms is taken over.
        """
        del branch
        if elements in self._curves:
            return self._curves[elements]
        import torch  # takes seconds; reading a file does not need it

        from sencache.profiles.interpolation import NearestCurve

        table = torch.tensor([self.timesteps, self.j_x, self.j_t], dtype=torch.float64)
        units = torch.tensor([math.sqrt(elements), self.num_train_timesteps], dtype=torch.float64)
        values = table[1:] * units[:, None] / self.scale
        taus = (table[0] / self.num_train_timesteps).float()
        self._curves[elements] = NearestCurve(taus, values.float())
        return self._curves[elements]

    @functools.cached_property
    def _curves(self) -> dict[int, NearestCurve]:
        """Curves so far, by elements: their tensors stay on the devices from run to run."""
        return {}

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
        _require_family(family)  # before the file is read, so that a typo is reported as such
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
    if family not in OFFICIAL_SETTINGS:
        known = ", ".join(OFFICIAL_SETTINGS)
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
