"""From the times of one kind of model to those of another: by their share of noise.

A latent is alpha * clip + sigma * noise. Flow matching has alpha + sigma = 1 and calls the network
with sigma; diffusion models have alpha^2 + sigma^2 = 1 and call it with the number of a step. Their
share of noise, s = sigma / (alpha + sigma), is the same where the latents have the same
signal-to-noise ratio. A prior keeps its drift and sensitivities over s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sencache.profiles.metadata import ProfileError, SensitivityPoint
from sencache.profiles.profile import SensitivityProfile

Prediction = Literal["flow", "v", "epsilon"]

_PREDICTIONS: Mapping[str, Prediction] = {
    "flow_prediction": "flow",
    "v_prediction": "v",
    "epsilon": "epsilon",
}
"""By `prediction_type` of diffusers 0.42."""


@dataclass(frozen=True)
class NoiseLevels:
    """Which share of noise the latents have at which tau; linear in between.

    Attributes:
        tau: Rising, shape [knots], knots >= 2.
        sigma: Share of noise at each, in [0, 1], rising.

    Raises:
        ProfileError: They do not rise together.
    """

    tau: tuple[float, ...]
    sigma: tuple[float, ...]

    def __post_init__(self) -> None:
        rise = all(
            np.all(np.diff(values) > 0) and np.isfinite(values).all()
            for values in (self.tau, self.sigma)
        )
        if len(self.tau) != len(self.sigma) or len(self.tau) < 2 or not rise:
            raise ProfileError("tau and sigma must be two or more pairs of numbers that both rise")

    @classmethod
    def of_scheduler(cls, scheduler: Any) -> NoiseLevels:
        """Those of a diffusers scheduler.

        Raises:
            ProfileError: Its noise levels are not known.
        """
        if prediction_of(scheduler) == "flow" or _is_edm(scheduler):
            return cls((0.0, 1.0), (0.0, 1.0))  # their tau is the share of noise
        kept = getattr(scheduler, "alphas_cumprod", None)
        if kept is None:
            raise ProfileError(
                f"{type(scheduler).__name__} does not say its noise levels (alphas_cumprod); "
                "measure a profile of the model"
            )
        unit = int(scheduler.config["num_train_timesteps"])
        shares = [_noise_share(alpha_squared) for alpha_squared in kept.tolist()]
        return cls(tuple(step / unit for step in range(len(shares))), tuple(shares))

    @classmethod
    def of_steps(cls, tau: Sequence[float], sigma: Sequence[float]) -> NoiseLevels:
        """Those of the steps of a run, tau and sigma falling."""
        return cls(tuple(reversed(tau)), tuple(reversed(sigma)))

    def sigma_at(self, tau: Sequence[float]) -> tuple[float, ...]:
        """Share of noise at times, shape [times]; that of the outermost knot beyond them."""
        return tuple(np.interp(tau, self.tau, self.sigma).tolist())

    def tau_at(self, sigma: Sequence[float]) -> tuple[float, ...]:
        """Times of shares of noise, the inverse of :meth:`sigma_at`."""
        return tuple(np.interp(sigma, self.sigma, self.tau).tolist())


def prediction_of(scheduler: Any) -> Prediction:
    """What a network predicts, by the scheduler of its pipeline.

    Args:
        scheduler: A diffusers scheduler, or the mapping of its config. A config names its class
            (`_class_name`) where a pipeline has saved it.

    Raises:
        ProfileError: It predicts something else, or the config does not say what.
    """
    config = scheduler if isinstance(scheduler, Mapping) else scheduler.config
    name = config.get("_class_name", "")
    if not isinstance(scheduler, Mapping):
        name = type(scheduler).__name__
    if str(name).startswith(("FlowMatch", "FlowMap")):
        return "flow"
    if _is_edm(str(name)):
        # What the network predicts beneath the scaling of EDM is v, with the other sign.
        return "v"
    kind = str(config.get("prediction_type", ""))
    if kind not in _PREDICTIONS:
        known = ", ".join(_PREDICTIONS)
        raise ProfileError(
            f"{name or 'the scheduler'} has prediction_type {kind!r}; priors are for {known} and "
            "flow matching: measure a profile of the model"
        )
    return _PREDICTIONS[kind]


def _is_edm(scheduler: Any) -> bool:
    """Whether a scheduler, or that of a class name, is one of EDM (arXiv 2206.00364)."""
    name = scheduler if isinstance(scheduler, str) else type(scheduler).__name__
    return name.startswith("EDM")


def for_sampler(profile: SensitivityProfile, scheduler: Any | None) -> SensitivityProfile:
    """A profile over the times that a scheduler counts.

    Args:
        profile: Any; only one over sigma is changed.
        scheduler: A diffusers scheduler; None if it is not known, which only flow matching allows.

    Raises:
        ProfileError: The profile is for another kind of prediction.
    """
    if profile.metadata.time == "tau":
        return profile
    kind = profile.metadata.prediction
    if scheduler is None:
        if kind != "flow":
            raise ProfileError(
                f"the prior for {kind} prediction needs the scheduler: give the pipeline, not its "
                "transformer"
            )
        return over_tau(profile, NoiseLevels((0.0, 1.0), (0.0, 1.0)), unit=1000)
    found = prediction_of(scheduler)
    if found != kind:
        raise ProfileError(
            f"this prior is for {kind} prediction but {type(scheduler).__name__} has {found}; use "
            f"prior_profile({found!r})"
        )
    unit = int(scheduler.config["num_train_timesteps"])
    return over_tau(profile, NoiseLevels.of_scheduler(scheduler), unit)


def over_tau(profile: SensitivityProfile, levels: NoiseLevels, unit: int) -> SensitivityProfile:
    """A profile over sigma, moved to the taus of other noise levels.

    Args:
        profile: Over sigma.
        levels: Which tau has which sigma.
        unit: What timesteps are divided by to get tau.
    """
    drift = profile.drift
    if drift is not None:
        kept = _within(drift.tau, levels)
        drift = replace(drift.at(kept), tau=levels.tau_at(kept))
    metadata = replace(profile.metadata, time="tau", num_train_timesteps=unit)
    branches = {branch: _moved(points, levels) for branch, points in profile.branches.items()}
    return replace(profile, metadata=metadata, branches=branches, drift=drift)


def _moved(points: Sequence[SensitivityPoint], levels: NoiseLevels) -> tuple[SensitivityPoint, ...]:
    """A branch's points at the taus of their sigmas; a_t per change of tau."""
    known = np.array([point.tau for point in points])
    values = np.array([[p.a_x, p.a_x_spread, p.a_t, p.a_t_spread] for p in points])
    sigma = np.array(_within(known.tolist(), levels))
    tau = np.array(levels.tau_at(sigma.tolist()))
    at = np.stack([np.interp(-sigma, -known, column) for column in values.T])
    at[2:] *= np.abs(np.gradient(sigma, tau))
    return tuple(
        SensitivityPoint(t, *each) for t, each in zip(tau.tolist(), at.T.tolist(), strict=True)
    )


def _within(sigma: Sequence[float], levels: NoiseLevels) -> tuple[float, ...]:
    """Falling sigmas without those beyond the levels, which the outermost levels replace."""
    low, high = levels.sigma[0], levels.sigma[-1]
    inside = [each for each in sigma if low < each < high]
    ends = [high] if sigma[0] >= high else []
    return (*ends, *inside, *([low] if sigma[-1] <= low else []))


def _noise_share(alpha_squared: float) -> float:
    """The share of noise, sigma / (alpha + sigma) where alpha^2 + sigma^2 = 1."""
    alpha, sigma = math.sqrt(max(alpha_squared, 0.0)), math.sqrt(max(1.0 - alpha_squared, 0.0))
    return sigma / (alpha + sigma)
