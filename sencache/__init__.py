"""Per-sample step caching for video diffusion transformers (SenCache, arXiv 2602.24208).

profile = calibrate(pipe, prompts)
cache = apply_sencache(pipe, SenCacheConfig(epsilon=0.1), profile)
pipe(prompts)
cache.stats()          # one SampleStats per sample
remove_sencache(pipe)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sencache.apply import SenCacheHandle, apply_sencache, remove_sencache
    from sencache.calibration.calibrate import calibrate
    from sencache.calibration.clips import ClipLatents, encode_clips
    from sencache.calibration.journal import FileJournal, Journal
    from sencache.config import SenCacheConfig
    from sencache.families.base import (
        Family,
        UnknownTransformerError,
        family_of,
        register_family,
    )
    from sencache.hook.agreement import Agreement, RankAgreement
    from sencache.pipelines import networks_of
    from sencache.policies.gated import check_room
    from sencache.presets import PRESETS, QUALITY
    from sencache.profiles.metadata import ProfileError, ProfileMetadata, SensitivityPoint
    from sencache.profiles.official import OfficialProfile
    from sencache.profiles.profile import ProfileWarning, SensitivityProfile
    from sencache.schedules.drift import OutputDrift
    from sencache.schedules.planner import computed_steps, least_computed
    from sencache.schedules.sampler_moves import step_moves
    from sencache.stats import Refresh, SampleStats

__all__ = [
    "PRESETS",
    "QUALITY",
    "Agreement",
    "ClipLatents",
    "Family",
    "FileJournal",
    "Journal",
    "OfficialProfile",
    "OutputDrift",
    "ProfileError",
    "ProfileMetadata",
    "ProfileWarning",
    "RankAgreement",
    "Refresh",
    "SampleStats",
    "SenCacheConfig",
    "SenCacheHandle",
    "SensitivityPoint",
    "SensitivityProfile",
    "UnknownTransformerError",
    "apply_sencache",
    "calibrate",
    "check_room",
    "computed_steps",
    "encode_clips",
    "family_of",
    "least_computed",
    "networks_of",
    "register_family",
    "remove_sencache",
    "step_moves",
]

_MODULES = {
    "Agreement": "hook.agreement",
    "ClipLatents": "calibration.clips",
    "Family": "families.base",
    "FileJournal": "calibration.journal",
    "Journal": "calibration.journal",
    "OfficialProfile": "profiles.official",
    "OutputDrift": "schedules.drift",
    "PRESETS": "presets",
    "ProfileError": "profiles.metadata",
    "ProfileMetadata": "profiles.metadata",
    "ProfileWarning": "profiles.profile",
    "QUALITY": "presets",
    "RankAgreement": "hook.agreement",
    "Refresh": "stats",
    "SampleStats": "stats",
    "SenCacheConfig": "config",
    "SenCacheHandle": "apply",
    "SensitivityPoint": "profiles.metadata",
    "SensitivityProfile": "profiles.profile",
    "UnknownTransformerError": "families.base",
    "apply_sencache": "apply",
    "calibrate": "calibration.calibrate",
    "check_room": "policies.gated",
    "computed_steps": "schedules.planner",
    "encode_clips": "calibration.clips",
    "family_of": "families.base",
    "least_computed": "schedules.planner",
    "networks_of": "pipelines",
    "register_family": "families.base",
    "remove_sencache": "apply",
    "step_moves": "schedules.sampler_moves",
}
"""Where each name is defined. A name is imported when it is first used: reading a profile or a
setting must not load torch and diffusers, which take seconds."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
