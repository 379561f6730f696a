"""From the secants of single clips to the points of a profile."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from sencache.calibration.secants import Secant, SecantBatch
from sencache.profiles.metadata import Branch, ProfileError, SensitivityPoint
from sencache.profiles.profile import ProfileWarning
from sencache.schedules.drift import OutputDrift

# A change of the output by fewer units in its last place is mostly rounding: each of the two
# outputs is itself wrong by up to half a unit, and by more after many layers.
TRUSTED_MARGIN = 2.0


def check_finite(batch: SecantBatch) -> None:
    """Raise ProfileError if a batch measured NaN or infinity."""
    for secants in batch.secants.values():
        for secant in secants:
            if not all(math.isfinite(value) for value in (*secant.a_x, *secant.a_t)):
                raise ProfileError(
                    f"sensitivities at tau {secant.tau:.4g} are not finite: the network gave NaN "
                    "or infinity there"
                )


def mean_points(batches: Sequence[SecantBatch]) -> dict[Branch, tuple[SensitivityPoint, ...]]:
    """Mean and spread over the clips of all batches, for every step that each of them measured.

    All batches of a sampler have the same times. A step that one of them left out, because a clip
    did not move there, is left out of the means.
    """
    return {
        branch: tuple(_point(secants) for secants in _by_step(batches, branch))
        for branch in batches[0].secants
    }


def mean_drift(batches: Sequence[SecantBatch]) -> OutputDrift | None:
    """Drift of the output, mean over the clips of all batches, with a gain of 1.

    None where no outputs were kept, or where they allow no cache schedule: fewer than three steps,
    or times that do not fall (Heun).
    """
    tau = batches[0].tau
    falls = all(later < earlier for earlier, later in itertools.pairwise(tau))
    if len(tau) < 3 or not falls or any(batch.tau != tau for batch in batches):
        return None
    clips = [len(next(iter(batch.secants.values()))[0].a_x) for batch in batches]
    distances = np.average([batch.distances for batch in batches], axis=0, weights=clips)
    return OutputDrift.of_outputs(tau, distances)


def warn_of_rounding(batches: Sequence[SecantBatch]) -> None:
    """Warn where the output changed by less than the network's dtype resolves.

    Warns:
        ProfileWarning: Names the range of tau; the sensitivities there are too high.
    """
    doubtful = sorted(
        secants[0].tau
        for branch in batches[0].secants
        for secants in _by_step(batches, branch)
        if _mean([value for secant in secants for value in secant.margin]) < TRUSTED_MARGIN
    )
    if doubtful:
        warnings.warn(
            f"between tau {doubtful[0]:.4g} and {doubtful[-1]:.4g} the network's output changes "
            f"from step to step by less than {TRUSTED_MARGIN:g} x what {batches[0].dtype} "
            f"resolves ({len(doubtful)} points), so the sensitivities there are partly rounding "
            "noise and too high; calibrate in float32, or with fewer steps",
            ProfileWarning,
            stacklevel=3,
        )


def _by_step(batches: Sequence[SecantBatch], branch: Branch) -> list[list[Secant]]:
    """The secants of each step, one per batch, in the order of sampling."""
    steps: dict[float, list[Secant]] = {}
    for batch in batches:
        for secant in batch.secants.get(branch, ()):
            steps.setdefault(secant.tau, []).append(secant)
    return [secants for secants in steps.values() if len(secants) == len(batches)]


def _point(secants: Sequence[Secant]) -> SensitivityPoint:
    a_x = [value for secant in secants for value in secant.a_x]
    a_t = [value for secant in secants for value in secant.a_t]
    return SensitivityPoint(
        tau=_rounded(secants[0].tau),
        a_x=_rounded(_mean(a_x)),
        a_x_spread=_rounded(_spread(a_x)),
        a_t=_rounded(_mean(a_t)),
        a_t_spread=_rounded(_spread(a_t)),
    )


def _mean(values: Sequence[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).mean().item()


def _spread(values: Sequence[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).std(correction=0).item()


def _rounded(value: float) -> float:
    """A value of six significant digits; more would be noise."""
    return float(f"{value:.6g}")
