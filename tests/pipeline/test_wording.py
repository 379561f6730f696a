from __future__ import annotations

import pytest

from pipeline.wording import are, counted, rate


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
