"""The sentence that says what to do next about the scores of a dataset.

It suggests conditions on defects alone. A threshold that keeps a share of the clips says how they
are distributed, not which are bad: of a dataset without a fault it removes a kind of prompt, such
as those that ask for something slow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.report.good_clips.defects import ALIGNMENT, LIMITS, condition_without, names
from pipeline.report.good_clips.document import (
    ConditionTerm,
    FoundDefect,
    MissingScores,
    ScoreSummary,
)
from pipeline.wording import called_as, counted

_COMPARISON = re.compile(r"(\w+) (?:>=|>|<=|<) [-+.\deE]+")
_KNOWN_DEFECTS = {limit.score for limit in LIMITS}


def advise(
    good: int,
    not_good: int,
    not_judged: int,
    terms: Sequence[ConditionTerm],
    scores: Sequence[ScoreSummary],
    missing: Sequence[MissingScores],
    defects: Sequence[FoundDefect] = (),
    defective: int = 0,
) -> str:
    """Say what to do next.

    Args:
        good: Clips that meet the condition.
        not_good: Clips that do not.
        not_judged: Clips without a condition, or without a score that it needs.
        terms: Of the condition.
        scores: Of the dataset.
        missing: Reasons of missing scores, the most frequent first.
        defects: Those that the scores can tell.
        defective: Clips with at least one of them.
    """
    if not good and not not_good and not terms:
        return _without_condition(defects, defective, {each.name for each in scores})
    if not_judged > not_good:
        why = f": {missing[0].reason}" if missing else ""
        return (
            f"{counted(not_judged, 'clip', grouped=True)} cannot be judged because scores are "
            f"missing{why}; {called_as('score')} with the scorers of the condition gives them."
        )
    if not not_good:
        return (
            f"Every judged clip is good; {called_as('score')} --keep tries another condition "
            "without scoring again."
        )
    hardest = max(terms, key=lambda term: (term.fails, term.fails_alone), default=None)
    if hardest is None or not hardest.fails:
        return (
            f"{called_as('score')} --keep judges all clips by one condition, without scoring again."
        )
    return (
        f"The term {hardest.text} rejects most: {hardest.fails:,} of {not_good:,} rejected clips, "
        f"{hardest.fails_alone:,} of them alone{_by_content(hardest, scores)}."
    )


def defects_found(defects: Sequence[FoundDefect], defective: int) -> str:
    """Say how many clips have a defect, and which; or that none has, and what was looked for."""
    each = [f"{one.clips:,} {one.meaning}" for one in defects if one.clips]
    if each:
        clips = counted(defective, "clip", grouped=True)
        return f"{clips} {'has' if defective == 1 else 'have'} a defect ({', '.join(each)})"
    return f"no clip is {names(defects)}"


_BLIND = "these scores do not see whether a clip shows its prompt"


def _without_condition(defects: Sequence[FoundDefect], defective: int, scores: set[str]) -> str:
    if not defects:
        return f"No condition marks the good clips yet: give one with {called_as('score')} --keep."
    found = defects_found(defects, defective)
    if condition := condition_without(defects):
        it = "it" if defective == 1 else "them"
        return (
            f'{found}; {called_as("score")} --keep "{condition}" leaves {it} out, without scoring '
            "again."
        )
    said = f"{found[0].upper()}{found[1:]}"
    if scores.isdisjoint(ALIGNMENT):
        return f"{said}; {_BLIND}: look at the gallery, or score text alignment (docs/scores.md)."
    return f"{said}; look at the clips that fit their prompts least."


def _by_content(term: ConditionTerm, scores: Sequence[ScoreSummary]) -> str:
    """A caution where a term asks for a score that depends on what a clip shows."""
    found = _COMPARISON.fullmatch(term.text)
    score = next((each for each in scores if found and each.name == found[1]), None)
    if score is None or not score.clips or score.name in _KNOWN_DEFECTS:
        return ""
    return (
        f"; {score.name} depends on what a clip shows, so look under Rejected whether "
        f"{'this clip is' if term.fails == 1 else 'these clips are'} bad or of one kind of prompt"
    )
