"""The vocabulary of the sprite world: attributes, their captions and the held-out split."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan", "white")
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = ("left", "right", "up", "down")
SPEEDS = ("slowly", "quickly")
BACKGROUNDS = ("black", "gray", "brown", "purple", "gradient")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": COLOURS,
    "shape": SHAPES,
    "direction": DIRECTIONS,
    "speed": SPEEDS,
    "background": BACKGROUNDS,
}
"""Names of the five attributes and the words of each, in the order of attribute tensors."""

_FILLER_WORDS = ("a", "an", "the", "moving", "on", "background")
_CAPTION = re.compile(
    rf"a (?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})"
    rf" moving (?P<direction>{'|'.join(DIRECTIONS)})"
    rf"(?: (?P<speed>{'|'.join(SPEEDS)}))?"
    rf"(?: on a (?P<background>{'|'.join(BACKGROUNDS)}) background)?"
)


@dataclass(frozen=True)
class Attributes:
    """What a caption says about a clip; ``None`` for what it does not mention.

    Attributes:
        colour: One of ``COLOURS``.
        shape: One of ``SHAPES``.
        direction: One of ``DIRECTIONS``.
        speed: One of ``SPEEDS`` or ``None``.
        background: One of ``BACKGROUNDS`` or ``None``.
    """

    colour: str
    shape: str
    direction: str
    speed: str | None = None
    background: str | None = None


def caption_of(attributes: Attributes) -> str:
    """Returns the caption of a clip, leaving out the attributes that are ``None``."""
    text = f"a {attributes.colour} {attributes.shape} moving {attributes.direction}"
    if attributes.speed is not None:
        text += f" {attributes.speed}"
    if attributes.background is not None:
        text += f" on a {attributes.background} background"
    return text


def parse_caption(caption: str) -> Attributes:
    """Reads the attributes back from a caption.

    Raises:
        ValueError: The text is not a caption of the sprite world.
    """
    match = _CAPTION.fullmatch(caption.strip().lower())
    if match is None:
        raise ValueError(f"not a caption of the sprite world: {caption!r}")
    return Attributes(**match.groupdict())


def caption_words() -> list[str]:
    """Returns every word a caption can contain, in the order of their token ids."""
    return [*_FILLER_WORDS, *itertools.chain.from_iterable(ATTRIBUTES.values())]


def combinations(held_out: bool) -> list[tuple[int, int, int, int, int]]:
    """Lists the complete attribute combinations of one side of the split.

    One combination in seven is never trained on. The rule is a Latin square: for each shape,
    direction, speed and background exactly one colour is held out, so every attribute value stays
    equally frequent on both sides and only the compositions are new.

    Args:
        held_out: Whether to list the 120 held-out combinations or the 720 training ones.

    Returns:
        Index tuples in the order of ``ATTRIBUTES``.
    """
    everything = itertools.product(*(range(len(words)) for words in ATTRIBUTES.values()))
    return [
        (c, s, d, p, b)
        for c, s, d, p, b in everything
        if ((c + 2 * s + 3 * d + p + b) % len(COLOURS) == 0) == held_out
    ]
