"""The sentence that says what to do next about the scores of a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.report.good_clips.document import (
    ConditionTerm,
    MissingScores,
    ScoreSummary,
    Threshold,
)
from pipeline.wording import called_as, counted

_COMPARISON = re.compile(r"(\w+) (>=|>|<=|<) [-+.\deE]+")
HALF = 0.5
KEEPS = 0.75
"""Share of the clips that a condition to try keeps."""

MOTION = "motion"
FAULTS = ("black", "blockiness", "clipped", "cuts", "flicker", "frozen", "warping_error")
"""Scores of the basic scorers of which a good clip has little."""


def advise(
    good: int,
    not_good: int,
    not_judged: int,
    terms: Sequence[ConditionTerm],
    scores: Sequence[ScoreSummary],
    missing: Sequence[MissingScores],
) -> str:
    """Say what to do next.

    Args:
        good: Clips that meet the condition.
        not_good: Clips that do not.
        not_judged: Clips without a condition, or without a score that it needs.
        terms: Of the condition.
        scores: Of the dataset.
        missing: Reasons of missing scores, the most frequent first.
    """
    if not good and not not_good and not terms:
        return _without_condition(scores)
    if not_judged > not_good:
        why = f": {missing[0].reason}" if missing else ""
        return (
            f"{counted(not_judged, 'clip', grouped=True)} cannot be judged because scores are "
            f"missing{why}; {called_as('score')} with the scorers of the condition gives them."
        )
    if not not_good:
        return (
            f"Every judged clip is good; {called_as('score')} --keep tries a stricter condition "
            "without scoring again."
        )
    hardest = max(terms, key=lambda term: (term.fails, term.fails_alone), default=None)
    if hardest is None or not hardest.fails:
        return (
            f"{called_as('score')} --keep judges all clips by one condition, without scoring again."
        )
    return (
        f"The term {hardest.text} rejects most: {hardest.fails:,} of {not_good:,} rejected clips, "
        f"{hardest.fails_alone:,} of them alone{_looser(hardest, scores)}."
    )


def condition_to_try(scores: Sequence[ScoreSummary]) -> tuple[str, str] | None:
    """A condition that divides clips by a score that they have, and what it would do.

    The score of motion comes first, then other scores of which a good clip has much, then faults.

    Returns:
        The condition, and a clause such as "keeps 75% of the clips"; None where no score differs.
    """
    for score in sorted(scores, key=lambda each: (each.name != MOTION, each.name in FAULTS)):
        sign, choices = ("<=", score.at_most) if score.name in FAULTS else (">=", score.at_least)
        most = next((each for each in choices if each.wanted == KEEPS), None)
        if most is not None and most.kept < 1:
            return f"{score.name} {sign} {most.value:.3g}", f"keeps {most.kept:.0%} of the clips"
    return None


def _without_condition(scores: Sequence[ScoreSummary]) -> str:
    if (found := condition_to_try(scores)) is None:
        return f"No condition marks the good clips yet: give one with {called_as('score')} --keep."
    return (
        f'No condition marks the good clips yet; {called_as("score")} --keep "{found[0]}" '
        f"{found[1]}, without scoring again."
    )


def _looser(term: ConditionTerm, scores: Sequence[ScoreSummary]) -> str:
    """What threshold of a simple term would keep the next larger share of clips."""
    found = _COMPARISON.fullmatch(term.text)
    score = next((each for each in scores if found and each.name == found[1]), None)
    if not found or score is None or not score.clips:
        return ""
    sign = ">=" if found[2].startswith(">") else "<="
    now = 1 - term.fails / score.clips
    choices: Sequence[Threshold] = score.at_least if sign == ">=" else score.at_most
    more = [each for each in choices if each.wanted >= HALF and each.kept > now]
    if not more:
        return ""
    best = min(more, key=lambda each: each.kept)
    return (
        f"; it keeps {now:.0%} of the clips with this score, and "
        f"{score.name} {sign} {best.value:.3g} would keep {best.kept:.0%}"
    )
