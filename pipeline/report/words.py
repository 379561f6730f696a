"""Numbers as people read them; one way for the console, the page and the card."""

from __future__ import annotations

from pipeline.progress import duration
from pipeline.report.document import Estimate

__all__ = ["count", "dollars", "duration", "estimate", "percent", "size"]

NONE = "–"


def count(value: float | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,.0f}"


def dollars(value: float | None) -> str:
    """Money with as many digits as its size deserves."""
    if value is None:
        return NONE
    if value >= 100:
        return f"${value:,.0f}"
    if value >= 0.1 or value == 0:
        return f"${value:.2f}"
    return f"${value:.3g}" if value >= 1e-4 else f"${value:.6f}"


def percent(value: float | None) -> str:
    """A share with one digit."""
    return NONE if value is None else f"{value:.1%}"


def estimate(value: Estimate | None, unit: str) -> str:
    """A value and its interval."""
    if value is None:
        return NONE
    return f"{value.value:.2f}{unit} (95 %: {value.low:.2f} to {value.high:.2f})"


def size(value: float) -> str:
    """Bytes in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
