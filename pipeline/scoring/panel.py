"""The scorers of a run, asked about one clip after the other.

A scorer that fails costs its numbers and nothing else: the row says why they are missing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2

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

    def to_row(self) -> dict[str, Any]:
        """The columns of an output row, but for `good`."""
        return {
            "scores": [{"name": name, "value": value} for name, value in self.scores.items()],
            "scorers": list(self.scorers),
            "scores_missing": self.missing,
            "score_s": self.seconds,
            "perceptual_hash": self.perceptual_hash,
        }


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """How a run scores its clips; picklable.

    Attributes:
        scorers: As `--scorers` takes them.
        keep: The condition that a good clip meets, "" for none.
    """

    scorers: tuple[str, ...] = ()
    keep: str = ""

    def panel(self) -> ScorerPanel:
        """Load the scorers; once per process.

        Raises:
            UserError: A scorer cannot be used, or the condition is invalid.
        """
        cv2.setNumThreads(1)  # clips are scored side by side, beside the engine
        return ScorerPanel(load_scorers(self.scorers), self.keep)


class ScorerPanel:
    """Scores clips and judges them by a condition; several threads may use it at once.

    Attributes:
        keep: The condition, "" for none.
        names: Names of the scores that it gives.
    """

    def __init__(self, scorers: Sequence[Scorer], keep: str = "") -> None:
        """Take scorers, and the condition that a good clip meets.

        Args:
            scorers: From `load_scorers`.
            keep: As `--keep`; "" for none.

        Raises:
            UserError: The condition is invalid, or names an unknown score or column.
        """
        self._scorers = tuple(scorers)
        self.keep = keep
        self.names = tuple(name for scorer in scorers for name in scorer.scores)
        self._condition = Condition(keep, self.names) if keep else None
        self._said: set[str] = set()

    def score(self, clip: ScoredClip) -> ClipScores:
        """Ask every scorer about a clip."""
        began = time.monotonic()
        scores: dict[str, float | None] = dict.fromkeys(self.names)
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

    def only(self, names: Collection[str]) -> ScorerPanel:
        """A panel that judges nothing, and scores by those scorers alone that give some names.

        This panel itself if they are all its names.
        """
        if set(names) >= set(self.names):
            return self
        return ScorerPanel(
            [each for each in self._scorers if not set(names).isdisjoint(each.scores)]
        )

    def unreadable(self, reason: str) -> ClipScores:
        """What stands for the scores of a clip that cannot be read."""
        names = tuple(f"{scorer.name}@{scorer.version}" for scorer in self._scorers)
        return ClipScores(dict.fromkeys(self.names), names, reason[:LONGEST_REASON])

    def is_good(self, row: Mapping[str, Any]) -> bool | None:
        """Whether a row meets the condition; None without one, or if it needs a missing score."""
        return self._condition.of_row(row) if self._condition else None

    def line(self) -> str:
        """What is scored and kept, for the start of a run; "" where nothing is."""
        if not self._scorers:
            return ""
        names = ", ".join(f"{scorer.name}@{scorer.version}" for scorer in self._scorers)
        kept = f"a good clip has {self.keep}" if self.keep else "no --keep is set"
        return f"scored by {names}; {kept}"

    def _failed(self, scorer: Scorer, reason: str) -> str:
        """The reason as a row keeps it; the log gets each scorer's first with its traceback."""
        if scorer.name not in self._said:
            self._said.add(scorer.name)
            _logger.warning("scorer %s failed; its scores are null", scorer.name, exc_info=True)
        return f"{scorer.name}: {reason}"[:LONGEST_REASON]
