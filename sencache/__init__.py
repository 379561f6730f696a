"""Per-sample step caching for video diffusion transformers (SenCache, arXiv 2602.24208).

profile = calibrate(pipe, prompts)
cache = apply_sencache(pipe, SenCacheConfig(epsilon=0.1), profile)
pipe(prompts)
cache.stats()          # one SampleStats per sample
remove_sencache(pipe)
"""

from sencache.agreement import Agreement, RankAgreement
from sencache.apply import SenCacheHandle, apply_sencache, remove_sencache
from sencache.calibrate import calibrate
from sencache.clips import ClipLatents, encode_clips
from sencache.config import SenCacheConfig
from sencache.drift import OutputDrift
from sencache.families import Family, UnknownTransformerError, register_family
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
    "least_computed",
    "networks_of",
    "register_family",
    "remove_sencache",
    "step_moves",
]
