"""Other ways of skipping network evaluations, behind one interface."""

from sencache.rivals.base import Decisions, Rival, Scheduled, Tunable, UnsupportedError

__all__ = ["Decisions", "Rival", "Scheduled", "Tunable", "UnsupportedError"]
