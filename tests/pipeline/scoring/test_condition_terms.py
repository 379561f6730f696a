"""A condition is split at its outermost ANDs, and its terms together are the condition."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.scoring.condition_terms import asked_scores, refuse_changing, terms_of
from pipeline.scoring.conditions import Condition


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("motion > 0.2", [("motion > 0.2", ("motion",))]),
        (
            "a > 1 and (b < 2 or c = 'x and y') and cache.nfe between 3 and 9",
            [
                ("a > 1", ("a",)),
                ("(b < 2) OR (c = 'x and y')", ("b", "c")),
                ('"cache".nfe BETWEEN 3 AND 9', ("cache",)),
            ],
        ),
        ("not (a > 1 and b > 1)", [("NOT ((a > 1) AND (b > 1))", ("a", "b"))]),
        ("a = '(' or b = ')'", [("(a = '(') OR (b = ')')", ("a", "b"))]),
    ],
)
def test_a_condition_is_split_at_its_outermost_ands(text: str, terms: list[Any]) -> None:
    found = terms_of(text)
    assert [(term.text, term.names) for term in found] == terms


@pytest.mark.slow
def test_all_terms_together_are_the_condition() -> None:
    rng = random.Random(0)
    text = "motion > 0.5 and (black < 0.3 or motion < 0.9) and not (black > 0.7 and motion > 0.8)"
    names = ("motion", "black")
    terms = [Condition(term.sql, names) for term in terms_of(text)]
    whole = Condition(text, names)
    for _ in range(50):
        values = {name: rng.choice([None, rng.random()]) for name in names}
        row = {"scores": [{"name": name, "value": value} for name, value in values.items()]}
        each = [term.of_row(row) for term in terms]
        joined = False if False in each else None if None in each else True
        assert whole.of_row(row) is joined


def test_what_is_no_condition_has_no_terms() -> None:
    with pytest.raises(UserError, match="--keep motion >"):
        terms_of("motion >")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("random()", "random()"),
        ("motion > RANDOM() and black < 1", "random()"),
        ("hash(caption) % 2 = 0 or uuid() > ''", "uuid()"),
        ("created_at > now() - interval 1 day", "now()"),
        ("created_at::date = current_date", "current_date"),
        ("age(created_at) < interval 1 day", "age()"),
        ("list_transform([1], x -> x + random())[1] > 0.5", "random()"),
    ],
)
def test_what_gives_another_value_each_time_is_refused(text: str, name: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_changing(text, "--stratify-by")
    assert str(caught.value).startswith(f"--stratify-by {text}: {name} gives another value each")
    with pytest.raises(UserError, match=r"--keep .* gives another value each time"):
        Condition(text, ("motion", "black"))


def test_what_gives_the_same_value_passes() -> None:
    for text in (
        "",
        "hash(caption) % 2",
        "year(created_at) = 2026",
        "age(created_at, timestamp '2026-01-01') < interval 1 day",
        "caption = 'random()'",
        "source->>'random' = 'now'",
        "no SQL at ( all",
    ):
        refuse_changing(text, "--where")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("motion", ("motion",)),
        ('Motion - 5 * "black"', ("motion", "black")),
        ("least(motion, 1) + num_frames + cache.nfe", ("motion",)),
        ("seed_u64 % 7", ()),
        ("map_from_entries(scores)['motion']", ("motion", "black", "cuts")),
        ("good", ("motion", "black", "cuts")),
        ("score_s", ("motion", "black", "cuts")),
        ("greatest(*columns('mo.*'))", ("motion", "black", "cuts")),
        ("rows.motion", ("motion", "black", "cuts")),  # `rows` is no column
    ],
)
def test_an_expression_asks_for_the_scores_that_it_names(text: str, asked: tuple[str, ...]) -> None:
    assert asked_scores(text, ("motion", "black", "cuts"), "--select-by") == asked
