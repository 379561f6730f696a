"""Per-sample step caching for video diffusion transformers (SenCache, arXiv 2602.24208).

profile = calibrate(pipe, prompts, model="Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
handle = apply_sencache(pipe.transformer, SenCacheConfig(epsilon=0.1), profile)
pipe(prompts)
handle.stats()          # one SampleStats per sample
remove_sencache(pipe.transformer)
"""

from sencache.apply import SenCacheHandle, apply_sencache, remove_sencache
from sencache.calibrate import calibrate
from sencache.config import SenCacheConfig
from sencache.families import UnknownTransformerError
from sencache.measurement import ProfileError, ProfileMetadata, SensitivityPoint
from sencache.profile import ProfileWarning, SensitivityProfile
from sencache.stats import SampleStats

__all__ = [
    "ProfileError",
    "ProfileMetadata",
    "ProfileWarning",
    "SampleStats",
    "SenCacheConfig",
    "SenCacheHandle",
    "SensitivityPoint",
    "SensitivityProfile",
    "UnknownTransformerError",
    "apply_sencache",
    "calibrate",
    "remove_sencache",
]
