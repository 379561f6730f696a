"""What scores look like over a dataset, and which terms of a condition reject clips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.good_clips.document import ConditionTerm, ScoreSummary, Threshold
from pipeline.report.good_clips.meanings import meaning
from pipeline.report.rows import Floats

SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
"""Shares of clips that thresholds are given for."""

BARS = 20


def summarize(name: str, values: Floats, asked: int) -> ScoreSummary:
    """Summarize the values of one score.

    Args:
        name: Of the score.
        values: A value per clip, NaN where there is none.
        asked: Clips that a scorer was asked for it.
    """
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return ScoreSummary(
            name=name,
            meaning=meaning(name),
            clips=0,
            missing=asked,
            mean=None,
            deciles=[],
            at_least=[],
            at_most=[],
            edges=[],
            counts=[],
        )
    same = known[0] == known[-1]
    edges = known[[0, -1]] if same else np.linspace(known[0], known[-1], BARS + 1)
    counts = [len(known)] if same else np.histogram(known, edges)[0].tolist()
    return ScoreSummary(
        name=name,
        meaning=meaning(name),
        clips=len(known),
        missing=asked - len(known),
        mean=float(known.mean()),
        deciles=np.percentile(known, range(0, 101, 10)).tolist(),
        at_least=[_at_least(known, share) for share in SHARES],
        at_most=[_at_most(known, share) for share in SHARES],
        edges=edges.tolist(),
        counts=counts,
    )


def _at_least(known: Floats, share: float) -> Threshold:
    value = _as_shown(float(known[len(known) - _needed(len(known), share)]), up=False)
    kept = len(known) - np.searchsorted(known, value, "left")
    return Threshold(wanted=share, value=value, kept=float(kept / len(known)))


def _at_most(known: Floats, share: float) -> Threshold:
    value = _as_shown(float(known[_needed(len(known), share) - 1]), up=True)
    kept = np.searchsorted(known, value, "right")
    return Threshold(wanted=share, value=value, kept=float(kept / len(known)))


def _as_shown(value: float, *, up: bool) -> float:
    """A threshold with three digits that count, which keeps the clip that it was taken from.

    People copy what they read, so the share must be that of the number that is shown.
    """
    near = float(f"{value:.3g}")
    if value == near or (near > value) == up:
        return near
    unit = 10.0 ** (math.floor(math.log10(abs(near))) - 2)
    return float(f"{near + (unit if up else -unit):.3g}")


def _needed(clips: int, share: float) -> int:
    """Clips that make up a share, at least one; 0.1 of 30 is 3 whatever floats say."""
    return max(1, int(np.ceil(round(share * clips, 6))))


def count_terms(clips: ScoredClips) -> list[ConditionTerm]:
    """Count for each term the clips that fail it, and those that fail it and no other."""
    found = []
    for number, (term, verdict) in enumerate(zip(clips.terms, clips.verdicts, strict=True)):
        others = [v for at, v in enumerate(clips.verdicts) if at != number]
        rest = np.all([other == 1 for other in others], axis=0) if others else True
        found.append(
            ConditionTerm(
                text=term.text,
                fails=int((verdict == 0).sum()),
                fails_alone=int(((verdict == 0) & rest).sum()),
                unknown=int((np.isnan(verdict) & clips.applies).sum()),
            )
        )
    return found


def failed_terms(clips: ScoredClips, clip: int) -> Sequence[str]:
    """The terms that one clip does not meet."""
    pairs = zip(clips.terms, clips.verdicts, strict=True)
    return [term.text for term, verdict in pairs if verdict[clip] == 0]
