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

NEEDS_SCHEDULER = (
    'policy="planned" needs the sampler\'s schedule: give apply_sencache the pipeline, not its '
    "transformer"
)

_MEASURE = (
    "measure a profile with sencache.calibrate and pass it or its .json file, or leave profile out "
    "and the prior stands in"
)

NO_FILES = {
    "prior": "leave profile out, and the prior stands in",
    "own": f"a pipeline has no clips of its own to measure on: {_MEASURE}",
    "shipped": f"no profiles of models are shipped with the library: {_MEASURE}",
}
"""Where datasets get their profiles from; the library takes none of these words."""


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
        hint = ""
        if name.endswith(".json") or name in NO_FILES:
            hint = '; a profile comes after the settings: apply_sencache(pipe, "balanced", profile)'
        raise ValueError(
            f"there are no settings named {name!r}; qualities: {', '.join(QUALITY)}; "
            f"presets: {', '.join(PRESETS)}{hint}"
        )
    hints = {
        dict: "; SenCacheConfig(**settings) takes a dict",
        type: "; call the class to make settings",
    }
    raise TypeError(
        f"config is of type {type(config).__name__}; it must be a SenCacheConfig, or the name of a "
        f'quality or preset such as "balanced"{hints.get(type(config), "")}'
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
        ValueError: A profile is needed, but none is given and no prior can stand in; or cache
            schedules are to be made without a scheduler.
    """
    if config.may_reuse and config.policy == "planned" and scheduler is None:
        raise ValueError(NEEDS_SCHEDULER)
    if profile is None:
        if not config.may_reuse:
            return None, "none"
        if config.policy == "official":
            raise ValueError(missing_profile(config))
        if scheduler is None:
            raise ValueError(
                f"{missing_profile(config)}; or give apply_sencache the pipeline, not its "
                "transformer: its scheduler tells which prior stands in for a profile"
            )
        kind = prediction_of(scheduler)
        return prior_profile(kind), f"prior for {kind} prediction"
    if isinstance(profile, (SensitivityProfile, OfficialProfile)):
        return profile, "given"
    if isinstance(profile, str) and profile in NO_FILES:
        raise TypeError(f"profile is {profile!r}; {NO_FILES[profile]}")
    if isinstance(profile, os.PathLike) or (isinstance(profile, str) and profile.endswith(".json")):
        try:
            return SensitivityProfile.load(Path(profile)), os.fspath(profile)
        except OSError as error:
            why = f"the profile cannot be read ({error.strerror}); pass a file that `save` wrote"
            raise type(error)(error.errno, why, os.fspath(profile)) from error
    raise TypeError(
        f"profile is {profile!r:.80}; it must be a SensitivityProfile, an OfficialProfile, the "
        "path of a profile's .json file, or None"
    )


def name_of(name: str | os.PathLike[str] | None, what: str) -> str | None:
    """The name of a model, revision or sampler, which may be given as a path.

    Args:
        name: The name.
        what: The argument that holds it.

    Raises:
        TypeError: It is no name.
    """
    if name is None or isinstance(name, (str, os.PathLike)):
        return None if name is None else os.fspath(name)
    raise TypeError(f"{what} is of type {type(name).__name__}; it must be a name, a path or None")
