"""Checks the values of an input row: text, numbers and whole numbers within their limits."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from pipeline.errors import RowRejectedError
from pipeline.wording import a_kind_of

MAX_PROMPT_CHARS = 10_000


def text(value: Any, name: str, *, required: bool) -> str:
    """Return a text as it is.

    Raises:
        RowRejectedError: It is not text, too long, not valid Unicode, or empty and required.
    """
    if required and (value is None or (isinstance(value, str) and not value.strip())):
        raise RowRejectedError(f"{name} is empty")
    if not isinstance(value, str):
        raise RowRejectedError(f"{name} is {_kind(value)}, not text")
    if len(value) > MAX_PROMPT_CHARS:
        raise RowRejectedError(
            f"{name} has {len(value):,} characters, more than the limit of {MAX_PROMPT_CHARS:,}"
        )
    if "\x00" in value:
        raise RowRejectedError(f"{name} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowRejectedError(f"{name} holds a lone surrogate: not valid Unicode text") from None
    return value


def number(value: Any, name: str, default: float, low: float, high: float) -> float:
    """Return a number from `low` to `high`; the default for None.

    Raises:
        RowRejectedError: The value is not such a number.
    """
    if value is None:
        return float(default)
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise RowRejectedError(f"{name} is {_kind(value)}, not a number")
    if isinstance(value, Decimal) and value.is_nan():
        raise RowRejectedError(f"{name} is {value}, not a number")
    try:
        found = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        found = math.inf
    if not low <= found <= high:
        raise RowRejectedError(f"{name} is {value}, outside {low:g} to {high:g}")
    return found


def integer(value: Any, name: str, default: int, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`; the default for None.

    Raises:
        RowRejectedError: The value is not such a number.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise RowRejectedError(f"{name} is {_kind(value)}, not a whole number")
    if isinstance(value, Decimal) and not (
        value.is_finite() and value == value.to_integral_value()
    ):
        raise RowRejectedError(f"{name} is {value}, not a whole number")
    if isinstance(value, float) and not value.is_integer():
        # Readers give integer columns with gaps as floats: 3.0 is 3, and 3.5 is a mistake.
        raise RowRejectedError(f"{name} is {value}, not a whole number")
    found = int(value)
    if not low <= found <= high:
        raise RowRejectedError(f"{name} is {found}, outside {low} to {high}")
    return found


def _kind(value: Any) -> str:
    return f"{a_kind_of(value)} ({str(value)[:40]!r})"
