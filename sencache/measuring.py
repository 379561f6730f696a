"""What a program needs to plan without a given profile: priors, and clips that it measures itself.

Needs no torch. A program records uncached runs that it makes anyway
(:func:`sencache.extension.recorded_outputs`), keeps a :class:`ClipDrift` of each, and makes a
profile of them with :func:`profile_from_clips`. `pipeline` does this for a run's first clips.
"""

from sencache.profiles.metadata import ProfileMetadata
from sencache.profiles.noise_levels import NoiseLevels, Prediction, prediction_of
from sencache.profiles.own_clips import ClipDrift, Probe, profile_from_clips
from sencache.profiles.prior import prior_profile

__all__ = [
    "ClipDrift",
    "NoiseLevels",
    "Prediction",
    "Probe",
    "ProfileMetadata",
    "prediction_of",
    "prior_profile",
    "profile_from_clips",
]
