"""What to do next is said in one sentence that follows from the numbers."""

from __future__ import annotations

import numpy as np

from pipeline.report.good_clips.advice import advise
from pipeline.report.good_clips.document import ConditionTerm, MissingScores
from pipeline.report.good_clips.summaries import summarize

MOTION = summarize("motion", np.arange(100) / 100, 100)
BLOCKS = summarize("blockiness", np.arange(100) / 100, 100)
BLACK = summarize("black", np.zeros(100), 100)


def term(text: str, fails: int, alone: int = 0) -> ConditionTerm:
    return ConditionTerm(text=text, fails=fails, fails_alone=alone, unknown=0)


def test_without_a_condition_it_offers_one_that_keeps_three_quarters() -> None:
    said = advise(0, 0, 100, [], [BLACK, MOTION], [])
    assert '--keep "motion >= 0.25" keeps 75% of the clips' in said
    assert "give one with" in advise(0, 0, 100, [], [BLACK], [])
    # Of a fault a good clip has little, and anything else comes first.
    assert '--keep "motion >= 0.25"' in advise(0, 0, 100, [], [BLOCKS, MOTION], [])
    assert '--keep "blockiness <= 0.74" keeps 75% of' in advise(0, 0, 100, [], [BLOCKS], [])


def test_it_names_the_hardest_term_and_the_next_looser_threshold() -> None:
    terms = [term("black < 0.5", 0), term("motion > 0.7", 71, 71)]
    said = advise(29, 71, 0, terms, [BLACK, MOTION], [])
    assert "motion > 0.7 rejects most: 71 of 71 rejected clips, 71 of them alone" in said
    assert "it keeps 29% of the clips with this score, and motion >= 0.5 would keep 50%" in said
    said = advise(60, 40, 0, [term("motion < 0.6", 40, 40)], [MOTION], [])
    assert "motion <= 0.74 would keep 75%" in said
    said = advise(60, 40, 0, [term("(motion * 2) < 1.2", 40, 40)], [MOTION], [])
    assert said.endswith("40 of them alone.")


def test_missing_scores_come_before_thresholds() -> None:
    missing = [MissingScores(reason="own: no weights", clips=80)]
    said = advise(10, 10, 80, [term("motion > 0.5", 10)], [MOTION], missing)
    assert said.startswith("80 clips cannot be judged because scores are missing: own: no weights;")


def test_where_all_are_good_it_says_so() -> None:
    assert "Every judged clip is good" in advise(9, 0, 0, [term("motion > 0", 0)], [MOTION], [])
