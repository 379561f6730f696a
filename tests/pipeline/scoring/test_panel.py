"""A panel scores and judges clips; a scorer that fails costs its own numbers only."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.dataset.schema import NO_SCORES, rejected_row, to_table
from pipeline.errors import UserError
from pipeline.scoring.panel import ScorerPanel, ScoringPlan
from pipeline.scoring.perceptual_hash import clip_hash
from pipeline.scoring.scorer import ScoredClip
from tests.pipeline.scoring.made_clips import moving


class Given:
    """Gives fixed numbers, or raises."""

    version = "3"

    def __init__(self, name: str, answer: Mapping[str, float] | Exception, *scores: str) -> None:
        self.name, self.answer, self.scores = name, answer, scores

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in clips]


CLIP = ScoredClip(moving(), 8.0, "a caption", {})
SOUND = Given("sound", {"one": 1.0, "two": 2.0}, "one", "two")
BROKEN = Given("broken", ValueError("no weights\nhere"), "three")


def row_of(panel: ScorerPanel) -> dict[str, Any]:
    row = rejected_row("0" * 20, "", "", "demo", "r", "") | panel.score(CLIP).to_row()
    return row | {"good": panel.is_good(row)}


def test_scores_and_versions_are_in_the_row() -> None:
    row = row_of(ScorerPanel([SOUND], "two > 1.5"))
    assert row["scores"] == [{"name": "one", "value": 1.0}, {"name": "two", "value": 2.0}]
    assert row["scorers"] == ["sound@3"]
    assert row["scores_missing"] == ""
    assert row["perceptual_hash"] == clip_hash(CLIP.frames)
    assert row["score_s"] > 0
    assert row["good"] is True
    assert to_table([row]).num_rows == 1


def test_a_scorer_that_fails_costs_its_own_scores(caplog: pytest.LogCaptureFixture) -> None:
    panel = ScorerPanel([BROKEN, SOUND], "one = 1 and three > 0")
    with caplog.at_level(logging.WARNING):
        row = row_of(panel)
        row_of(panel)
    values = {each["name"]: each["value"] for each in row["scores"]}
    assert values == {"three": None, "one": 1.0, "two": 2.0}
    assert row["scores_missing"] == "broken: ValueError: no weights here"
    assert row["scorers"] == ["broken@3", "sound@3"]
    assert row["good"] is None
    assert len(caplog.records) == 1  # once per process, with its traceback
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_number_that_is_none_becomes_null(value: float) -> None:
    row = row_of(ScorerPanel([Given("odd", {"one": value, "two": 2.0}, "one", "two")]))
    assert row["scores"] == [{"name": "one", "value": None}, {"name": "two", "value": 2.0}]
    assert row["scores_missing"] == f"odd: it gave {value} for one"
    assert row["good"] is None


def test_without_scorers_a_row_has_no_scores() -> None:
    row = row_of(ScorerPanel(()))
    assert {name: row[name] for name in NO_SCORES if name != "score_s"} == {
        name: value for name, value in NO_SCORES.items() if name != "score_s"
    }
    assert ScorerPanel(()).line() == ""


def test_a_plan_loads_its_scorers_and_checks_its_condition() -> None:
    plan = ScoringPlan(("basic",), "motion > 0.01 and black < 0.5")
    assert row_of(plan.panel())["good"] is True
    assert plan.panel().line() == (
        "scored by light@1, movement@2, detail@2; a good clip has motion > 0.01 and black < 0.5"
    )
    with pytest.raises(UserError, match="aesthetics"):
        ScoringPlan(("basic",), "aesthetics > 5").panel()


@pytest.mark.slow
def test_several_threads_get_what_one_gets() -> None:
    panel = ScoringPlan(("basic",), "motion > 0.01").panel()
    clips = [ScoredClip(moving(seed), 8.0, "", {}) for seed in range(8)]
    alone = [panel.score(clip).scores for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        assert [each.scores for each in pool.map(panel.score, clips)] == alone


def test_a_panel_for_some_scores_asks_their_scorers_alone() -> None:
    panel = ScorerPanel([BROKEN, SOUND], "one = 1")
    some = panel.only({"two"})
    row = row_of(some)
    assert row["scorers"] == ["sound@3"]
    assert row["scores"] == [{"name": "one", "value": 1.0}, {"name": "two", "value": 2.0}]
    assert row["good"] is None
    assert panel.only(panel.names) is panel
    assert row_of(panel.only(()))["scores"] == []
