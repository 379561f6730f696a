"""The colours of the page can be read in both schemes (WCAG 2.2: 4.5 for text, 3 for marks)."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = (resources.files("pipeline.report") / "templates/style.css").read_text(encoding="utf-8")
SCHEMES = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", STYLE, re.S), strict=True))
TEXTS, MARKS = ("ink", "soft", "warn", "accent"), ("second", "third", "fourth", "fifth")


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out(scheme: str) -> None:
    colors = dict(re.findall(r"--(\w+): (#\w{6});", SCHEMES[scheme]))
    for ground in ("paper", "card", "low"):  # rows that were measured have `low`
        for name in TEXTS:
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
        for name in MARKS:
            assert contrast(colors[name], colors[ground]) >= 3, (name, ground)
