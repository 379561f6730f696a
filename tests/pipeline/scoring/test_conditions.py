"""Conditions over scores mean what they mean in exports, and mistakes are found before a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.dataset.schema import SCHEMA, rejected_row
from pipeline.errors import UserError
from pipeline.scoring.conditions import Condition

SCORES = ("motion", "black")


def row(**scores: float | None) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in scores.items()]
    blank = rejected_row("0" * 20, "a red cat", "", "demo", "r", "")
    return blank | {"status": "ok", "scores": listed, "num_frames": 17}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("motion > 0.2", True),
        ("motion > 0.2 and black < 0.01", False),
        ("black = 0.5 or num_frames > 100", True),
        ("caption like '%cat%'", True),
        ("num_frames >= 18", False),
        ("map_from_entries(scores)['motion'] > 0.2", True),
    ],
)
def test_a_row_is_judged_by_its_scores_and_columns(text: str, expected: bool) -> None:
    assert Condition(text, SCORES).of_row(row(motion=0.3, black=0.5)) is expected


def test_a_missing_score_makes_a_clip_neither_good_nor_bad() -> None:
    condition = Condition("motion > 0.2 and black < 0.01", SCORES)
    assert condition.of_row(row(motion=None, black=0.0)) is None
    assert condition.of_row(row(black=0.0)) is None
    assert condition.of_row(row(motion=None, black=0.5)) is False  # whatever the motion was


def test_rows_without_any_scores_are_not_judged() -> None:
    assert Condition("motion > 0.2", SCORES).of_row(row()) is None
    older = row() | {"scores": None}  # a part from before there were scores
    assert Condition("motion > 0.2", SCORES).of_row(older) is None


def test_tables_are_judged_in_order() -> None:
    rows = [row(motion=value / 10, black=0.0) for value in range(7)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert Condition("motion > 0.35", SCORES).of_table(table) == [False] * 4 + [True] * 3


def test_columns_of_the_input_can_be_asked() -> None:
    given = row(motion=0.3) | {"source": '{"topic": "cats"}'}
    assert Condition("source->>'topic' = 'cats'", SCORES).of_row(given) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "moton > 0.2",
            "no column or score 'moton'; did you mean motion? (scores are motion, black)",
        ),
        ("width > 2 and colour = 3", "no column or score 'colour'; scores are motion, black; "),
        ("colour = 3", "columns are sample_id, video, "),
        ("motion >", "no SQL expression: its end or a bracket is missing"),
        ("motion > > 2", 'no SQL expression: syntax error at or near ">"'),
        ("cache.nfee < 3", 'there is no field "nfee"; some that are near are "nfe", '),
        ("flor(motion) > 1", 'there is no function flor; did you mean "floor"?'),
        ("clip.moton > 1", "no column or score 'clip'"),
        ("sum(motion) > 0.1", "looks at several rows"),
        ("motion > avg(motion) over ()", "looks at several rows"),
        ("motion > (select 1)", "looks at several rows"),
        ("moton > 0.2", "scores are motion, black"),
        ("motion + 1", "it should be true or false"),
        ("motion > 0; drop table rows", "give one expression"),
        ("motion > 0) or (select true from read_csv('/etc/passwd')", "--keep"),
    ],
)
def test_mistakes_are_found_before_any_row(text: str, message: str) -> None:
    with pytest.raises(UserError, match="--keep") as caught:
        Condition(text, SCORES)
    assert message in str(caught.value)
    assert "Error:" not in str(caught.value)  # DuckDB's own words
    assert "\n" not in str(caught.value)


def test_a_score_cannot_have_the_name_of_a_column() -> None:
    with pytest.raises(UserError, match="the name of a column: status"):
        Condition("status = 'ok'", ("motion", "status"))


def test_a_run_without_scorers_says_that_there_are_no_scores() -> None:
    with pytest.raises(UserError, match="no scorer is on"):
        Condition("motion > 0.2", ())
