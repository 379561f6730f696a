"""The values of input rows at and beyond their limits, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipeline.errors import RowRejectedError
from pipeline.requests.row_values import MAX_PROMPT_CHARS, integer, number, text


def refused(check: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(RowRejectedError) as caught:
        check(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("value", [2, 2.0, Decimal(2), 7, 7.0, Decimal(7)])
def test_both_limits_are_allowed(value: Any) -> None:
    for check, kind in ((number, float), (integer, int)):
        found = check(value, "x", 5, 2, 7)
        assert (found, type(found)) == (value, kind)


def test_none_is_the_default() -> None:
    found = number(None, "x", 5, 2, 7)
    assert (found, type(found)) == (5.0, float)
    assert integer(None, "x", 5, 2, 7) == 5


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "x is a bool ('True'), not a {}"),
        ("3", "x is a str ('3'), not a {}"),
        ([1] * 50, "x is a list ('[1, " + "1, " * 12 + "'), not a {}"),  # 40 characters of it
        (Decimal("NaN"), "x is NaN, not a {}"),
        (1, "x is 1, outside 2 to 7"),
        (8, "x is 8, outside 2 to 7"),
        (Decimal(8), "x is 8, outside 2 to 7"),
        (10**400, f"x is {10**400}, outside 2 to 7"),
        (-(10**400), f"x is -{10**400}, outside 2 to 7"),
    ],
)
def test_what_is_no_number_within_the_limits_is_said(value: Any, said: str) -> None:
    assert refused(number, value, "x", 5, 2, 7) == said.format("number")
    assert refused(integer, value, "x", 5, 2, 7) == said.format("whole number")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2.5, "x is 2.5, not a whole number"),
        (Decimal("2.5"), "x is 2.5, not a whole number"),
        (math.nan, "x is nan, not a whole number"),
        (math.inf, "x is inf, not a whole number"),
        (Decimal("Infinity"), "x is Infinity, not a whole number"),
    ],
)
def test_what_is_no_whole_number_is_said(value: Any, said: str) -> None:
    assert refused(integer, value, "x", 5, 2, 7) == said


def test_a_float_is_said_as_it_is() -> None:
    assert refused(number, 7.25, "x", 5, 2, 7) == "x is 7.25, outside 2 to 7"
    assert refused(number, math.nan, "x", 5, 0.25, 7.5) == "x is nan, outside 0.25 to 7.5"


@pytest.mark.parametrize("value", ["a", " a\n", "x" * MAX_PROMPT_CHARS, "\ud7ff\U0001f3ac"])
def test_text_stays_as_it_is(value: str) -> None:
    assert text(value, "x", required=True) == value
    assert text("", "x", required=False) == ""
    assert text(" ", "x", required=False) == " "


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "x is empty"),
        (7, "x is an int ('7'), not text"),
        (" \n", "x is empty"),
        ("y" * 10_001, "x has 10,001 characters, more than the limit of 10,000"),
        ("a\x00", "x holds a NUL character"),
        ("a\ud800", "x holds a lone surrogate: not valid Unicode text"),
    ],
)
def test_what_is_no_text_is_said(value: Any, said: str) -> None:
    assert refused(text, value, "x", required=True) == said
