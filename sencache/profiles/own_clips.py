"""A profile from clips that a run makes anyway, with a prior for what they do not show.

Uncached clips show how far the model's output drifts, at no extra evaluation. How an error grows
until the end, and how the output responds to its input and to time alone, they do not show: both
come from a prior. The drift of a few clips is itself uncertain, so it is drawn towards the prior's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sencache.profiles.metadata import ProfileError, ProfileMetadata, SensitivityPoint
from sencache.profiles.noise_levels import NoiseLevels, over_tau
from sencache.profiles.profile import SensitivityProfile
from sencache.schedules.drift import Array, OutputDrift
from sencache.schedules.levels import scale_correction

FORMAT = "sencache-clip/1"
PRIOR_CLIPS = 1.0
"""Clips that the prior's drift counts for beside the run's own; see BENCHMARKS.md."""
MOST_SCALING = 16.0
"""Largest factor between a prior's sensitivity and the run's own, in either direction."""


@dataclass(frozen=True)
class Probe:
    """The cached twin of a clip: what was promised for it and what came out.

    Attributes:
        nfe: Computed steps.
        predicted: Relative error of the final latents
            (:func:`sencache.schedules.levels.promised_error`) by the profile of the same clips
            without probes.
        measured: rms difference of its final latents to those of the uncached clip, divided by the
            rms of the latter.
    """

    nfe: int
    predicted: float
    measured: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) and v > 0 for v in (self.predicted, self.measured)):
            raise ProfileError(
                f"a probe has predicted error {self.predicted} and measured error {self.measured}; "
                "both must be above 0: probe a run that reuses steps"
            )


@dataclass(frozen=True)
class ClipDrift:
    """What one uncached clip shows of its model.

    Attributes:
        tau: Time of each step, falling, shape [T], T >= 3.
        sigma: Share of noise at each step (:class:`~sencache.profiles.noise_levels.NoiseLevels`),
            falling; tau itself in flow matching.
        distances: Mean over elements of the squared difference between the guided outputs of two
            steps, shape [T, T], symmetric, 0 on the diagonal.
        latents_rms: rms of the final latents.
        evaluations: Rows that the network evaluated for the clip.
        probe: Of its cached twin, if there is one.

    Raises:
        ProfileError: Shapes or values that no run can have.
    """

    tau: tuple[float, ...]
    sigma: tuple[float, ...]
    distances: tuple[tuple[float, ...], ...]
    latents_rms: float
    evaluations: int
    probe: Probe | None = None

    def __post_init__(self) -> None:
        OutputDrift(self.tau, (1.0,) * len(self.tau), self.distances)  # checks them
        NoiseLevels.of_steps(self.tau, self.sigma)
        if not (math.isfinite(self.latents_rms) and self.latents_rms > 0):
            raise ProfileError(f"latents_rms is {self.latents_rms}; it must be a number above 0")

    @classmethod
    def of_outputs(
        cls,
        tau: Sequence[float],
        sigma: Sequence[float],
        distances: Array,
        latents_rms: float,
        evaluations: int,
        probe: Probe | None = None,
    ) -> ClipDrift:
        """From measured values, rounded to the digits that a file keeps.

        Args:
            tau: Time of each step, falling.
            sigma: Share of noise at each step.
            distances: Shape [T, T]; symmetric but for rounding.
            latents_rms: rms of the final latents.
            evaluations: Rows that the network evaluated.
            probe: Of the cached twin.
        """
        drift = OutputDrift.of_outputs(tau, distances)
        noise = tuple(_rounded(each) for each in sigma)
        rms = _rounded(latents_rms)
        return cls(drift.tau, noise, drift.distances, rms, evaluations, probe)

    def to_json(self) -> str:
        """As text; half of the symmetric distances."""
        values: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        values["distances"] = [row[:index] for index, row in enumerate(self.distances)]
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, origin: str = "clip drift") -> ClipDrift:
        """Read what :meth:`to_json` wrote.

        Args:
            text: The text.
            origin: Its name in error messages.

        Raises:
            ProfileError: Not such a text, or values that no run can have.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ProfileError(f"its format is {data['format']!r}, not {FORMAT!r}")
            ones = [1.0] * len(data["tau"])
            drift = OutputDrift.from_dict({**data, "gain": ones})
            return cls(
                drift.tau,
                tuple(float(each) for each in data["sigma"]),
                drift.distances,
                float(data["latents_rms"]),
                int(data["evaluations"]),
                None if data["probe"] is None else Probe(**data["probe"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProfileError(f"{origin} is not a usable record of a clip: {error}") from error


def profile_from_clips(
    clips: Sequence[ClipDrift],
    prior: SensitivityProfile,
    metadata: ProfileMetadata,
    *,
    prior_clips: float = PRIOR_CLIPS,
) -> SensitivityProfile:
    """A profile from a run's own uncached clips and a prior.

    The drift is the clips' mean, drawn towards the prior's, which is first scaled to the level of
    the clips. Gain and sensitivities are the prior's; sensitivities are scaled at each step by the
    ratio of the two drifts from this step to the next, so that the change which the paper's rule
    predicts there has the measured size. The order of the clips does not matter.

    Args:
        clips: One or more, of the same steps.
        prior: A prior, or the profile of a related model.
        metadata: Of the result; its clips, evaluations, `inputs`, `latents_rms` and `basis` are
            filled in here.
        prior_clips: Clips that the prior's drift counts for; 0 takes the clips' drift alone.

    Raises:
        ProfileError: No clips, clips of different steps, or a prior without drift.
    """
    if not clips:
        raise ProfileError("a profile needs one clip or more")
    first = clips[0]
    if any((clip.tau, clip.sigma) != (first.tau, first.sigma) for clip in clips):
        raise ProfileError("the clips of a profile must have the same steps")
    if prior.drift is None:
        raise ProfileError("the prior has no drift")
    expected, known = prior.drift.at(first.tau), prior.branches
    if prior.metadata.time == "sigma":
        expected = replace(prior.drift.at(first.sigma), tau=first.tau)
        levels = NoiseLevels.of_steps(first.tau, first.sigma)
        known = over_tau(prior, levels, metadata.num_train_timesteps).branches
    clips = sorted(clips, key=lambda clip: clip.to_json())
    own = np.mean([clip.distances for clip in clips], axis=0)
    level = _level(own, expected.matrix())
    weight = len(clips) / (len(clips) + prior_clips)
    blend = weight * own + (1 - weight) * level * expected.matrix()
    rms = math.sqrt(float(np.mean([clip.latents_rms**2 for clip in clips])))
    scale = prior.error_scale * (prior.metadata.latents_rms or rms) / rms
    probes = [clip.probe for clip in clips if clip.probe is not None]
    if probes:
        each = [math.log(scale_correction(p.measured, p.predicted)) for p in probes]
        scale *= math.exp(sum(each) / len(each))
    facts = replace(
        metadata,
        time="tau",
        inputs="run",
        num_clips=len(clips),
        network_evaluations=sum(clip.evaluations for clip in clips),
        latents_rms=_rounded(rms),
        basis={
            "prior": prior.metadata.model,
            "prior_hash": prior.hash,
            "weight_of_clips": _rounded(weight),
            "level": _rounded(level),
            "probes": len(probes),
        },
    )
    branches = {
        branch: _scaled(points, first.tau, own, expected.matrix())
        for branch, points in known.items()
    }
    drift = OutputDrift.of_outputs(first.tau, blend, expected.gain)
    return SensitivityProfile(facts, branches, drift, _rounded(scale))


def _level(own: Array, expected: Array) -> float:
    """The factor of all expected distances that fits the clips' best: least squares of the logs."""
    upper = np.triu_indices(len(own), 1)
    pairs = (own[upper] > 0) & (expected[upper] > 0)
    if not pairs.any():
        return 1.0
    return float(np.exp(np.log(own[upper][pairs] / expected[upper][pairs]).mean()))


def _scaled(
    points: Sequence[SensitivityPoint], tau: Sequence[float], own: Array, expected: Array
) -> tuple[SensitivityPoint, ...]:
    """A branch's points at the clips' steps, scaled by the ratio of the drift of each step.

    Args:
        points: Of the prior, over tau.
        tau: Of the clips' steps, shape [T].
        own: Mean distances of the clips, shape [T, T].
        expected: Those of the prior.
    """
    known = np.array([point.tau for point in points])
    values = np.array([[p.a_x, p.a_x_spread, p.a_t, p.a_t_spread] for p in points])
    changes, usual = np.diag(own, 1), np.diag(expected, 1)
    ratio = np.ones(len(tau) - 1)
    np.divide(changes, usual, out=ratio, where=usual > 0)
    ratio = np.clip(np.sqrt(ratio), 1 / MOST_SCALING, MOST_SCALING)
    scaled = []
    for time, factor in zip(tau, np.append(ratio, ratio[-1]), strict=True):
        at = [float(np.interp(-time, -known, column) * factor) for column in values.T]
        scaled.append(SensitivityPoint(time, *map(_rounded, at)))
    return tuple(scaled)


def _rounded(value: float) -> float:
    """A value of six significant digits; more would be noise."""
    return float(f"{value:.6g}")
