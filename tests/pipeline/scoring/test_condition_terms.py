"""A condition is split at its outermost ANDs, and its terms together are the condition."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.scoring.condition_terms import terms_of
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
