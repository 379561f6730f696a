"""What a scorer is: clips in, named numbers out.

A scorer sees the frames before they are encoded, the caption and the request. It names its numbers
beforehand, so that conditions over them can be checked before a run begins. Scorers that come with
the package, and how users add their own, are in `pipeline.scoring.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

Frames = np.ndarray[Any, np.dtype[np.uint8]]
"""A clip: uint8 RGB of shape (frames, height, width, 3)."""


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """What a scorer is told about a clip.

    Attributes:
        frames: uint8 RGB of shape (frames, height, width, 3); not to be changed.
        fps: Frames per second.
        caption: Its prompt, as the network read it.
        row: Columns of its output row that are known by then, such as `seed` and `source`.
    """

    frames: Frames
    fps: float
    caption: str
    row: Mapping[str, Any]


@runtime_checkable
class Scorer(Protocol):
    """Gives numbers to clips; used by several threads at once.

    Attributes:
        name: Lower-case name, unique among the scorers of a run.
        version: Of its method or weights. Rows say `name@version`; change it whenever the numbers
            of a clip change.
        scores: Names of its numbers, unique among all scorers of a run.
    """

    name: str
    version: str
    scores: tuple[str, ...]

    def score(self, clips: Sequence[ScoredClip]) -> Sequence[Mapping[str, float]]:
        """Score clips.

        Args:
            clips: One or more clips; their shapes may differ.

        Returns:
            One mapping per clip. A name that is missing, or not finite, becomes null in the row.

        Raises:
            Exception: The scores become null and the row says why; the clip is kept.
        """
        ...
