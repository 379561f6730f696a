from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wording import are, counted, dollars, rate


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 rows are"), (1, "1 row is"), (2, "2 rows are"), (1001, "1001 rows are")],
)
def test_one_is_singular_and_everything_else_plural(number: int, said: str) -> None:
    assert f"{counted(number, 'row')} {are(number)}" == said


def test_thousands_are_separated_where_asked() -> None:
    assert counted(1_234_567, "clip", grouped=True) == "1,234,567 clips"
    assert counted(1, "clip", grouped=True) == "1 clip"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5, "2.5 clips/s"), (0.1, "6.0 clips/min"), (0.001, "3.6 clips/h"), (0, "0.0 clips/h")],
)
def test_rate(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "$0"), (0.000976, "0.0976¢"), (0.0104, "1.04¢"), (0.1, "10¢"), (0.4999, "50¢")],
        *[
            (0.9996, "$1.00"),
            (12.344, "$12.34"),
            (21.06, "$21.06"),
            (250, "$250"),
            (12_345, "$12,300"),
        ],
    ],
)
def test_money_is_said_for_people(value: float, text: str) -> None:
    assert dollars(value) == text


@given(st.floats(1e-9, 1e9))
def test_money_has_three_digits_that_count_or_cents_and_is_near_its_value(value: float) -> None:
    text = dollars(value)
    digits = text.strip("$¢").replace(",", "")
    told = float(digits) / (100 if text.endswith("¢") else 1)
    assert told == pytest.approx(value, rel=0.0051)
    assert len(digits.replace(".", "").strip("0")) <= (4 if 10 <= told < 100 else 3)
    assert (told < 1) == text.endswith("¢")
