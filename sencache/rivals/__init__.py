"""Other ways of skipping network evaluations, behind one interface."""

from sencache.rivals.base import Decisions, Rival, Scheduled, Tunable, UnsupportedError
from sencache.rivals.schedules import FirstThenEvery, UniformSkipping, UniformTaylor

__all__ = [
    "Decisions",
    "FirstThenEvery",
    "Rival",
    "Scheduled",
    "Tunable",
    "UniformSkipping",
    "UniformTaylor",
    "UnsupportedError",
]
