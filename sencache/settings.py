"""What a user names or points to, turned into settings and profiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sencache.config import SenCacheConfig, missing_profile
from sencache.policies.branch_rules import AnyProfile
from sencache.presets import PRESETS, QUALITY
from sencache.profiles.noise_levels import prediction_of
from sencache.profiles.official import OfficialProfile
from sencache.profiles.prior import prior_profile
from sencache.profiles.profile import SensitivityProfile


def config_of(config: Any) -> SenCacheConfig:
    """Settings as given, or by the name of a quality or preset.

    Raises:
        ValueError: There is no quality or preset of this name.
        TypeError: Neither settings nor a name.
    """
    if isinstance(config, SenCacheConfig):
        return config
    if isinstance(config, (str, os.PathLike)):
        name = os.fspath(config)
        known = {**QUALITY, **PRESETS}
        if name in known:
            return known[name]
        raise ValueError(
            f"there are no settings named {name!r}; qualities: {', '.join(QUALITY)}; "
            f"presets: {', '.join(PRESETS)}"
        )
    raise TypeError(
        f"config is a {type(config).__name__}; it must be a SenCacheConfig, or the name of a "
        'quality or preset such as "balanced"'
        + ("; SenCacheConfig(**settings) takes a dict" if isinstance(config, dict) else "")
    )


def profile_of(
    profile: Any, config: SenCacheConfig, scheduler: Any
) -> tuple[AnyProfile | None, str]:
    """A profile as given, from a file, or the prior, or none if not needed; its origin in words.

    Args:
        profile: A profile, the path of its file, or None.
        config: Settings that it is for.
        scheduler: Of the pipeline, which tells the prior; None if unknown.

    Raises:
        ProfileError: The file is not a profile, or there is no prior for the scheduler.
        OSError: The file cannot be read.
        TypeError: Neither a profile nor a path.
        ValueError: A profile is needed, but none is given and no prior can stand in.
    """
    if profile is None:
        if not config.may_reuse:
            return None, "none"
        if scheduler is None or config.policy == "official":
            raise ValueError(missing_profile(config))
        kind = prediction_of(scheduler)
        return prior_profile(kind), f"prior for {kind} prediction"
    if isinstance(profile, (SensitivityProfile, OfficialProfile)):
        return profile, "given"
    if isinstance(profile, os.PathLike) or (isinstance(profile, str) and profile.endswith(".json")):
        return SensitivityProfile.load(Path(profile)), os.fspath(profile)
    raise TypeError(
        f"profile is {profile!r:.80}; it must be a SensitivityProfile, an OfficialProfile, the "
        "path of a profile's .json file, or None"
    )


def name_of(name: str | os.PathLike[str] | None) -> str | None:
    """The name of a model, revision or sampler, which may be given as a path."""
    return None if name is None else os.fspath(name)
