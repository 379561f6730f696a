"""Colours of the sprite world: what the words of a caption look like.

A saved pipeline names the palette that it was trained on in ``palette.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

RGB = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""

_FILE = "palette.json"


@dataclass(frozen=True)
class Palette:
    """Colours by word.

    Attributes:
        name: Key in ``PALETTES``.
        colours: Colour of the sprite for each word.
        backgrounds: Colours of the top and the bottom row of each background.
    """

    name: str
    colours: dict[str, RGB]
    backgrounds: dict[str, tuple[RGB, RGB]]


def _flat(*rgb: float) -> tuple[RGB, RGB]:
    red, green, blue = rgb
    return (red, green, blue), (red, green, blue)


PLAIN = Palette(
    "plain",
    {
        "red": (0.92, 0.14, 0.12),
        "green": (0.14, 0.76, 0.20),
        "blue": (0.18, 0.36, 0.96),
        "yellow": (0.95, 0.87, 0.14),
        "magenta": (0.92, 0.20, 0.80),
        "cyan": (0.14, 0.86, 0.90),
        "white": (0.95, 0.95, 0.95),
    },
    {
        "black": _flat(0.04, 0.04, 0.05),
        "gray": _flat(0.42, 0.42, 0.44),
        "brown": _flat(0.33, 0.20, 0.10),
        "purple": _flat(0.25, 0.10, 0.38),
        "gradient": ((0.05, 0.10, 0.30), (0.55, 0.45, 0.55)),
    },
)
"""The palette of the shipped weights."""

MUTED = Palette(
    "muted",
    {
        "red": (0.78, 0.34, 0.30),
        "green": (0.48, 0.66, 0.30),
        "blue": (0.42, 0.54, 0.84),
        "yellow": (0.86, 0.74, 0.40),
        "magenta": (0.74, 0.42, 0.64),
        "cyan": (0.44, 0.74, 0.70),
        "white": (0.88, 0.85, 0.80),
    },
    {
        "black": _flat(0.10, 0.09, 0.08),
        "gray": _flat(0.30, 0.32, 0.33),
        "brown": _flat(0.24, 0.15, 0.08),
        "purple": _flat(0.18, 0.12, 0.30),
        "gradient": ((0.20, 0.08, 0.06), (0.10, 0.28, 0.34)),
    },
)
"""Softer sprites on darker backgrounds, for models that check results of the shipped one."""

PALETTES = {palette.name: palette for palette in (PLAIN, MUTED)}


def save_palette(palette: Palette, folder: Path) -> None:
    """Writes into a saved pipeline's folder which palette it was trained on."""
    (folder / _FILE).write_text(json.dumps({"palette": palette.name}) + "\n", encoding="utf-8")


def palette_of(folder: Path) -> Palette:
    """Returns the palette that a saved pipeline was trained on; the plain one if it names none.

    Raises:
        ValueError: The folder names a palette that is unknown.
    """
    path = folder / _FILE
    if not path.exists():
        return PLAIN
    name = json.loads(path.read_text(encoding="utf-8"))["palette"]
    if name not in PALETTES:
        raise ValueError(f"{path}: unknown palette {name!r}, not one of {', '.join(PALETTES)}")
    return PALETTES[name]
