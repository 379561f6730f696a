"""Conditions on scores beyond which a clip has a defect, whatever its prompt asks for.

The limits follow from what the scores mean (docs/scores.md) and not from the values of a dataset.
Scores that depend on the content of a clip as well, such as motion, sharpness and brightness, have
no such limit: a cut of them removes a kind of prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.report.good_clips.document import FoundDefect
from pipeline.report.rows import Floats, Mask

ALIGNMENT = ("text_alignment", "text_to_video_alignment")
"""Scores that say how well a clip shows its prompt."""

ALIGNMENT_SCORER = "text-alignment=openai/clip-vit-base-patch32"
"""The smallest scorer that gives one of them."""


@dataclass(frozen=True)
class DefectLimit:
    """Where a score begins to mean a defect.

    Attributes:
        score: Its name.
        sound: The condition of a clip without the defect.
        least: The least value of a clip that has the defect.
        meaning: The defect, as in "2 clips are mostly black".
    """

    score: str
    sound: str
    least: float
    meaning: str

    def has(self, values: Floats) -> Mask:
        """Which clips have the defect; a clip without a value has not."""
        return np.asarray(np.nan_to_num(values, nan=-np.inf) >= self.least)


LIMITS = (
    DefectLimit("black", "black < 0.5", 0.5, "mostly black"),
    DefectLimit("frozen", "frozen < 0.5", 0.5, "mostly frozen"),
    DefectLimit("cuts", "cuts = 0", 1.0, "cut"),
    DefectLimit("flicker", "flicker < 0.1", 0.1, "flickering"),
)
"""The defects that the scorers without weights know. Flicker of 0.1 is a picture whose brightness
goes up and down by a twentieth of its range from each frame to the next."""


def find_defects(scores: Mapping[str, Floats]) -> tuple[list[FoundDefect], int]:
    """Count the clips with each defect that the scores of a dataset can tell.

    Args:
        scores: Values of each clip by the name of the score; NaN where there is none.

    Returns:
        The defects that were looked for, and the number of clips with at least one.
    """
    found, any_of = [], np.zeros(len(next(iter(scores.values()), ())), np.bool_)
    for limit in LIMITS:
        values = scores.get(limit.score)
        if values is None or not np.isfinite(values).any():
            continue
        having = limit.has(values)
        any_of |= having
        found.append(
            FoundDefect(
                score=limit.score,
                sound=limit.sound,
                meaning=limit.meaning,
                clips=int(having.sum()),
            )
        )
    return found, int(any_of.sum())


def condition_without(defects: Iterable[FoundDefect]) -> str:
    """The condition that leaves out the clips with a defect; "" where no clip has one."""
    return " and ".join(one.sound for one in defects if one.clips)


def names(defects: Iterable[FoundDefect]) -> str:
    """The defects as words, e.g. `mostly black, cut or flickering`."""
    *first, last = [one.meaning for one in defects]
    return f"{', '.join(first)} or {last}" if first else last
