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
    from sencache.agreement import Agreement, RankAgreement
    from sencache.apply import SenCacheHandle, apply_sencache, remove_sencache
    from sencache.calibration import calibrate
    from sencache.clips import ClipLatents, encode_clips
    from sencache.config import SenCacheConfig
    from sencache.drift import OutputDrift
    from sencache.families import Family, UnknownTransformerError, family_of, register_family
    from sencache.gate import check_room
    from sencache.journal import FileJournal, Journal
    from sencache.measurement import ProfileError, ProfileMetadata, SensitivityPoint
    from sencache.official import OfficialProfile
    from sencache.pipes import networks_of
    from sencache.plan import computed_steps, least_computed
    from sencache.presets import PRESETS, QUALITY
    from sencache.profile import ProfileWarning, SensitivityProfile
    from sencache.sampling import step_moves
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
    "Agreement": "agreement",
    "ClipLatents": "clips",
    "Family": "families",
    "FileJournal": "journal",
    "Journal": "journal",
    "OfficialProfile": "official",
    "OutputDrift": "drift",
    "PRESETS": "presets",
    "ProfileError": "measurement",
    "ProfileMetadata": "measurement",
    "ProfileWarning": "profile",
    "QUALITY": "presets",
    "RankAgreement": "agreement",
    "Refresh": "stats",
    "SampleStats": "stats",
    "SenCacheConfig": "config",
    "SenCacheHandle": "apply",
    "SensitivityPoint": "measurement",
    "SensitivityProfile": "profile",
    "UnknownTransformerError": "families",
    "apply_sencache": "apply",
    "calibrate": "calibration",
    "check_room": "gate",
    "computed_steps": "plan",
    "encode_clips": "clips",
    "family_of": "families",
    "least_computed": "plan",
    "networks_of": "pipes",
    "register_family": "families",
    "remove_sencache": "apply",
    "step_moves": "sampling",
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
