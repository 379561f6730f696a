"""Sensitivity profiles: how strongly a network's output responds to its input and to time.

A profile is measured once per model and sampler setting (:mod:`sencache.calibration.calibrate`),
kept as a JSON file with one point per line, and checked against the run that uses it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sencache.profiles.distance import differences, warning_text
from sencache.profiles.metadata import (
    Branch,
    ProfileError,
    ProfileMetadata,
    SensitivityPoint,
    check_points,
    dtype_name,
    sampler_facts,
)
from sencache.schedules.drift import OutputDrift
from sencache.schedules.fitted import FittedPlan

if TYPE_CHECKING:
    import torch

    from sencache.profiles.interpolation import SensitivityCurve

FORMAT = "sencache-profile/1"


class ProfileWarning(UserWarning):
    """A profile was measured under other settings; thresholds may not mean what they did."""


@dataclass(frozen=True, repr=False)
class SensitivityProfile:
    """Measured a_x(tau) and a_t(tau) per guidance branch, with their provenance.

    Attributes:
        metadata: How and on what it was measured.
        branches: Points per branch, tau falling as it does while sampling; at least two each.
        drift: How far the output drifts over a run, which cache schedules need; None in a profile
            that was measured without it.
        error_scale: Relative error of the final latents, divided by the error that the drift
            predicts for a schedule (:attr:`sencache.schedules.planner.CacheSchedule.error`): 1 over
            the latents' rms, corrected by what was measured on cached runs.

    Raises:
        ProfileError: A branch has too few points, tau does not fall, or a value is no
            finite number >= 0.
    """

    metadata: ProfileMetadata
    branches: Mapping[Branch, tuple[SensitivityPoint, ...]]
    drift: OutputDrift | None = None
    error_scale: float = 1.0
    plans: tuple[FittedPlan, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.error_scale) and self.error_scale > 0):
            raise ProfileError(f"error_scale is {self.error_scale}; it must be a number above 0")
        if "cond" not in self.branches:
            raise ProfileError("profile has no branch 'cond'; every calibration measures it")
        for branch, points in self.branches.items():
            check_points(branch, points)

    def __repr__(self) -> str:
        points = ", ".join(f"{branch} {len(each)}" for branch, each in self.branches.items())
        drift = "no drift" if self.drift is None else f"drift of {self.drift.steps} steps"
        return (
            f"<SensitivityProfile {self.hash} of {self.metadata.model or 'an unnamed model'} "
            f"({self.metadata.family}): {points} points, {drift}>"
        )

    @property
    def hash(self) -> str:
        """16 hex digits of SHA-256 over the values that decide verdicts.

        Includes means, tau, the unit of time, the drift and fitted plans, but not spread and
        provenance: two profiles with the same hash give the same pixels.
        """
        decisive: dict[str, Any] = {
            "num_train_timesteps": self.metadata.num_train_timesteps,
            "branches": {
                branch: [[point.tau, point.a_x, point.a_t] for point in points]
                for branch, points in self.branches.items()
            },
        }
        if self.drift is not None:
            decisive["drift"] = asdict(self.drift)
        if self.error_scale != 1.0:
            decisive["error_scale"] = self.error_scale
        if self.plans:
            decisive["plans"] = [asdict(plan) for plan in self.plans]
        if self.metadata.time != "tau":
            decisive["time"] = self.metadata.time
            decisive["prediction"] = self.metadata.prediction
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def curve(self, branch: Branch) -> SensitivityCurve:
        """The branch's sensitivities as a function of tau; the same object at every call.

        Raises:
            ProfileError: The profile was measured without this branch.
        """
        if branch not in self.branches:
            raise ProfileError(
                f"profile has no branch {branch!r}; calibrate with guidance to measure it"
            )
        if branch in self._curves:
            return self._curves[branch]
        import torch  # takes seconds; reading a profile does not need it

        from sencache.profiles.interpolation import SensitivityCurve

        rising = sorted(self.branches[branch], key=lambda point: point.tau)
        self._curves[branch] = SensitivityCurve(
            torch.tensor([point.tau for point in rising]),
            torch.tensor([[point.a_x for point in rising], [point.a_t for point in rising]]),
        )
        return self._curves[branch]

    @functools.cached_property
    def _curves(self) -> dict[Branch, SensitivityCurve]:
        """Curves so far: their tensors stay on the devices from run to run."""
        return {}

    def check(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        family: str | None = None,
        scheduler: object | None = None,
        dtype: torch.dtype | None = None,
        sampler: str | None = None,
        shift: float | None = None,
        num_inference_steps: int | None = None,
        architecture: str | None = None,
        guided: bool | None = None,
        size: tuple[int, int, int] | None = None,
        adapters: Sequence[str] = (),
        once: bool = False,
    ) -> None:
        """Compare the profile with the run that uses it; None is not compared.

        A prior is meant for every model and every run, so nothing is compared with it.

        Args:
            model: Id of the model that runs.
            revision: Revision of its weights.
            family: Name of its transformer family.
            scheduler: The pipeline's scheduler, for sampler, shift and num_train_timesteps.
            dtype: Dtype of the network's input.
            sampler: Class name of the scheduler, where there is no scheduler object.
            shift: Flow shift of its sigma schedule, likewise.
            num_inference_steps: Steps of the run.
            architecture: :func:`sencache.profiles.metadata.architecture_of` the network. Not
                compared where the profile does not say its own.
            guided: Whether the run has classifier-free guidance.
            size: Width, height and frames of its clips.
            adapters: Names of its adapters, which no profile was measured with.
            once: Give no warning that this object has given before.

        Raises:
            ProfileError: Another model, revision, family, architecture or unit of time: the
                values do not describe this network.

        Warns:
            ProfileWarning: Once, for all of these: another sampler, shift or dtype, guidance
                switched on or off, adapters, less than half or more than twice the steps, clips of
                more than four times or less than a quarter of the size
                (:mod:`sencache.profiles.distance`). The values describe this network, but along
                other trajectories.
        """
        if self.metadata.is_prior:
            return
        refused: dict[str, Any] = {"model": model, "revision": revision, "family": family}
        warned: dict[str, Any] = {
            "dtype": None if dtype is None else dtype_name(dtype),
            "sampler": sampler,
            "shift": shift,
        }
        if scheduler is not None:
            facts = sampler_facts(scheduler)
            refused["num_train_timesteps"] = facts.pop("num_train_timesteps")
            warned |= facts
        if architecture not in self.metadata.architecture.split("+"):
            refused["architecture"] = architecture if self.metadata.architecture else None
        for name, theirs in refused.items():
            mine = getattr(self.metadata, name)
            if theirs is not None and mine != theirs:
                raise ProfileError(
                    f"profile was measured with {name} {mine!r} but the run has {theirs!r}; "
                    "calibrate for this model, or pass the profile that belongs to it"
                )
        found = differences(
            self.metadata,
            warned,
            guided=guided,
            size=size,
            num_inference_steps=num_inference_steps,
            adapters=adapters,
        )
        if found and not (once and warning_text(found) in self._said):
            self._said.add(warning_text(found))
            warnings.warn(warning_text(found), ProfileWarning, stacklevel=2)

    @functools.cached_property
    def _said(self) -> set[str]:
        """Warnings so far."""
        return set()

    def to_json(self) -> str:
        """The file's text: metadata, then one point per line, so that a diff is readable."""
        head: dict[str, Any] = {
            "format": FORMAT,
            "hash": self.hash,
            "metadata": self.metadata.to_dict(),
        }
        if self.error_scale != 1.0:
            head["error_scale"] = self.error_scale
        tables = ",\n".join(
            f"    {json.dumps(branch)}: [\n"
            + ",\n".join(f"      {json.dumps(asdict(point))}" for point in points)
            + "\n    ]"
            for branch, points in self.branches.items()
        )
        opening = json.dumps(head, indent=2).removesuffix("\n}")
        drift = f',\n  "drift": {self.drift.to_json()}' if self.drift is not None else ""
        plans = ",\n    ".join(json.dumps(asdict(plan)) for plan in self.plans)
        fitted = f',\n  "plans": [\n    {plans}\n  ]' if plans else ""
        return f'{opening},\n  "branches": {{\n{tables}\n  }}{drift}{fitted}\n}}\n'

    @classmethod
    def from_json(cls, text: str, origin: str = "profile") -> SensitivityProfile:
        """Read a profile from its JSON text.

        Args:
            text: What :meth:`to_json` wrote.
            origin: Name of the text in error messages, such as a path or URI.

        Raises:
            ProfileError: Not JSON, not this format, a missing or wrong value, or values that
                do not have the hash written beside them.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise ProfileError(f"{origin} is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ProfileError(f"{origin} has format {found!r}; this version reads {FORMAT!r}")
        try:
            profile = cls(
                ProfileMetadata(**data["metadata"]),
                {
                    branch: tuple(SensitivityPoint(**point) for point in points)
                    for branch, points in data["branches"].items()
                },
                OutputDrift.from_dict(data["drift"]) if "drift" in data else None,
                float(data.get("error_scale", 1.0)),
                tuple(FittedPlan.from_dict(plan) for plan in data.get("plans", ())),
            )
        except (KeyError, TypeError, AttributeError, ProfileError) as error:
            raise ProfileError(f"{origin} is not a usable profile: {error}") from error
        if data.get("hash", profile.hash) != profile.hash:
            raise ProfileError(
                f"{origin} is damaged or was edited: its values have hash {profile.hash}, "
                f"the file says {data['hash']}"
            )
        return profile

    def save(self, path: str | Path) -> None:
        """Write the profile to a local file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> SensitivityProfile:
        """Read a profile from a local file.

        Raises:
            ProfileError: See :meth:`from_json`, or the file is no text; the message names it.
            OSError: The file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ProfileError(f"{path} is not JSON: {error}") from error
        return cls.from_json(text, origin=str(path))
