"""What to do next is said in one sentence that follows from the numbers."""

from __future__ import annotations

import numpy as np

from pipeline.report.good_clips.advice import advise
from pipeline.report.good_clips.defects import find_defects
from pipeline.report.good_clips.document import ConditionTerm, MissingScores
from pipeline.report.good_clips.summaries import summarize

MOTION = summarize("motion", np.arange(100) / 100, 100)
BLOCKS = summarize("blockiness", np.arange(100) / 100, 100)
BLACK = summarize("black", np.zeros(100), 100)


def term(text: str, fails: int, alone: int = 0) -> ConditionTerm:
    return ConditionTerm(text=text, fails=fails, fails_alone=alone, unknown=0)


def test_no_threshold_follows_from_how_the_scores_of_sound_clips_are_distributed() -> None:
    scores = {"black": np.zeros(100), "motion": np.arange(100) / 100, "cuts": np.zeros(100)}
    defects, defective = find_defects(scores)
    assert [(one.score, one.clips) for one in defects] == [("black", 0), ("cuts", 0)]
    assert defective == 0
    said = advise(0, 0, 100, [], [BLACK, MOTION], [], defects, defective)
    assert said == (
        "No clip is mostly black or cut; these scores do not see whether a clip shows its prompt: "
        "look at the gallery, or score text alignment (docs/scores.md)."
    )
    said = advise(0, 0, 100, [], [BLOCKS, MOTION], [])
    assert said.startswith("No condition marks the good clips yet: give one with")


def test_clips_with_a_defect_are_counted_once_and_left_out_by_its_limit() -> None:
    scores = {
        "black": np.array([0.0, 0.49, 0.5, 1.0, np.nan]),
        "frozen": np.array([0.5, 0.0, 0.0, 1.0, 0.0]),
        "flicker": np.array([0.099, 0.0, 0.0, 0.0, 0.0]),
        "cuts": np.full(5, np.nan),  # no scorer said
    }
    defects, defective = find_defects(scores)
    found = {one.score: one.clips for one in defects}
    assert (found, defective) == ({"black": 2, "frozen": 2, "flicker": 0}, 3)
    assert advise(0, 0, 5, [], [BLACK], [], defects, defective) == (
        "3 clips have a defect (2 mostly black, 2 mostly frozen); python jobs/score.py --keep "
        '"black < 0.5 and frozen < 0.5" leaves them out, without scoring again.'
    )


def test_it_names_the_hardest_term_and_warns_where_it_depends_on_the_content() -> None:
    terms = [term("black < 0.5", 0), term("motion > 0.7", 71, 71)]
    said = advise(29, 71, 0, terms, [BLACK, MOTION], [])
    assert "motion > 0.7 rejects most: 71 of 71 rejected clips, 71 of them alone" in said
    assert said.endswith(
        "motion depends on what a clip shows, so look under Rejected whether these clips are bad "
        "or of one kind of prompt."
    )
    assert "would keep" not in said
    said = advise(60, 40, 0, [term("black < 0.5", 40, 40)], [BLACK], [])
    assert said.endswith("40 of them alone.")
    said = advise(60, 40, 0, [term("(motion * 2) < 1.2", 40, 40)], [MOTION], [])
    assert said.endswith("40 of them alone.")


def test_missing_scores_come_before_thresholds() -> None:
    missing = [MissingScores(reason="own: no weights", clips=80)]
    said = advise(10, 10, 80, [term("motion > 0.5", 10)], [MOTION], missing)
    assert said.startswith("80 clips cannot be judged because scores are missing: own: no weights;")


def test_where_all_are_good_it_says_so() -> None:
    assert "Every judged clip is good" in advise(9, 0, 0, [term("motion > 0", 0)], [MOTION], [])
