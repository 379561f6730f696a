"""The scorers of a run, asked about one clip after the other.

A scorer that fails costs its numbers and nothing else: the row says why they are missing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import message_of
from pipeline.scoring.conditions import Condition
from pipeline.scoring.perceptual_hash import clip_hash
from pipeline.scoring.registry import load_scorers
from pipeline.scoring.scorer import ScoredClip, Scorer

_logger = logging.getLogger(__name__)

LONGEST_REASON = 300
"""Characters of the reason that a row keeps of each failed scorer."""


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What the scorers of a run said about a clip.

    Attributes:
        scores: By name; None where it is missing.
        scorers: `name@version` of every scorer that was asked.
        missing: Why scores are missing, "" if none is.
        perceptual_hash: Of the frames (`pipeline.scoring.perceptual_hash`).
        seconds: Time that scoring took.
    """

    scores: Mapping[str, float | None] = field(default_factory=dict)
    scorers: tuple[str, ...] = ()
    missing: str = ""
    perceptual_hash: str = ""
    seconds: float = 0.0


class ScorerPanel:
    """Scores clips and judges them by a condition; several threads may use it at once."""

    def __init__(self, scorers: Sequence[Scorer], keep: str = "") -> None:
        """Take scorers, and the condition that a good clip meets.

        Args:
            scorers: From `load_scorers`.
            keep: As `--keep`; "" for none.

        Raises:
            UserError: The condition is invalid, or names an unknown score or column.
        """
        self._scorers = tuple(scorers)
        self._names = tuple(name for scorer in scorers for name in scorer.scores)
        self._condition = Condition(keep, self._names) if keep else None
        self._said: set[str] = set()

    @classmethod
    def of_run(cls, scorers: Sequence[str], keep: str) -> ScorerPanel:
        """Load the scorers of a run's settings.

        Raises:
            UserError: A scorer cannot be used, or the condition is invalid.
        """
        return cls(load_scorers(scorers), keep)

    def score(self, clip: ScoredClip) -> ClipScores:
        """Ask every scorer about a clip."""
        began = time.monotonic()
        scores: dict[str, float | None] = dict.fromkeys(self._names)
        reasons = []
        for scorer in self._scorers:
            try:
                (found,) = scorer.score([clip])
            except Exception as error:  # noqa: BLE001 - a scorer never costs a clip
                reasons.append(self._failed(scorer, f"{type(error).__name__}: {message_of(error)}"))
                continue
            for name in scorer.scores:
                value = found.get(name)
                if value is None or not math.isfinite(value):
                    reasons.append(f"{scorer.name}: it gave {value} for {name}")
                else:
                    scores[name] = float(value)
        return ClipScores(
            scores,
            tuple(f"{scorer.name}@{scorer.version}" for scorer in self._scorers),
            "; ".join(reasons),
            clip_hash(clip.frames) if self._scorers else "",
            time.monotonic() - began,
        )

    def is_good(self, row: Mapping[str, object]) -> bool | None:
        """Whether a row meets the condition; None without one, or where it needs a missing score."""
        return self._condition.of_row(row) if self._condition else None

    def _failed(self, scorer: Scorer, reason: str) -> str:
        """The reason as a row keeps it; the log gets each scorer's first with its traceback."""
        if scorer.name not in self._said:
            self._said.add(scorer.name)
            _logger.warning("scorer %s failed; its scores are null", scorer.name, exc_info=True)
        return f"{scorer.name}: {reason}"[:LONGEST_REASON]
