"""Procedural sprite clips: one shaded shape that moves steadily over a plain background."""

from __future__ import annotations

import torch
from torch import Tensor

from jobs.benchmarks.demo_model.captions import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SPEEDS,
    Attributes,
    caption_of,
    combinations,
)
from jobs.benchmarks.demo_model.palette import PLAIN, Palette
from pipeline.models.demo import DEFAULTS

SPEED_PX = {"slowly": 0.6, "quickly": 2.0}
"""Speeds in pixels per frame, at a size of 64 pixels."""

_RADIUS_PX = (10.0, 12.5)
_SPEED_JITTER = 0.06
_COLOUR_JITTER = 0.02
_DROP_PROBABILITY = 0.15
_DIRECTION_STEP = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}


def shape_distance(shape: str, dx: Tensor, dy: Tensor, radius: Tensor) -> Tensor:
    """Signed distance to the outline of a shape, negative inside.

    The three shapes have nearly the same area at equal radius, so the size does not tell the shape.

    Args:
        shape: One of ``SHAPES``.
        dx: Horizontal offsets from the centre in pixels.
        dy: Vertical offsets from the centre in pixels, positive downwards, same shape as ``dx``.
        radius: Size in pixels, broadcastable to ``dx``.

    Returns:
        Distances in pixels, the shape of ``dx``.

    Raises:
        ValueError: The shape is unknown.
    """
    if shape == "circle":
        return (dx * dx + dy * dy).sqrt() - radius
    if shape == "square":
        return torch.maximum(dx.abs(), dy.abs()) - 0.9 * radius
    if shape == "triangle":
        inradius = 0.72 * radius  # pointing up, with the centroid at the centre
        return torch.maximum(dy, dx.abs() * 3**0.5 / 2 - dy / 2) - inradius
    raise ValueError(f"unknown shape {shape!r}")


def draw_attributes(count: int, generator: torch.Generator, held_out: bool = False) -> Tensor:
    """Draws attribute combinations of one side of the split.

    Args:
        count: Number of clips.
        generator: Source of randomness.
        held_out: Whether to draw from the combinations that are never trained on.

    Returns:
        Integer tensor ``(count, 5)``, columns in the order of ``ATTRIBUTES``.
    """
    table = torch.tensor(combinations(held_out))
    return table[torch.randint(len(table), (count,), generator=generator)]


def attributes_of(row: Tensor, with_speed: bool = True, with_background: bool = True) -> Attributes:
    """Translates one row of an attribute tensor into words.

    Args:
        row: Integer tensor ``(5,)``.
        with_speed: Whether to mention the speed.
        with_background: Whether to mention the background.
    """
    colour, shape, direction, speed, background = (
        words[int(index)] for words, index in zip(ATTRIBUTES.values(), row, strict=True)
    )
    return Attributes(
        colour,
        shape,
        direction,
        speed if with_speed else None,
        background if with_background else None,
    )


def draw_captions(attributes: Tensor, generator: torch.Generator) -> list[str]:
    """Describes clips, some of them without their speed or their background.

    Args:
        attributes: Integer tensor ``(count, 5)``.
        generator: Source of randomness.
    """
    keep = torch.rand(len(attributes), 2, generator=generator) >= _DROP_PROBABILITY
    return [
        caption_of(attributes_of(row, bool(speed), bool(background)))
        for row, (speed, background) in zip(attributes, keep, strict=True)
    ]


def render(
    attributes: Tensor,
    generator: torch.Generator,
    num_frames: int = DEFAULTS.num_frames,
    size: int = DEFAULTS.height,
    palette: Palette = PLAIN,
) -> Tensor:
    """Renders clips of the given attributes; size, path, speed and colours vary a little.

    The path lies inside the frame; only the tip of a fast triangle may leave it, by three pixels.

    Args:
        attributes: Integer tensor ``(count, 5)``.
        generator: Source of randomness.
        num_frames: Frames per clip.
        size: Height and width in pixels; lengths and speeds scale with it.
        palette: What the colours look like.

    Returns:
        Float tensor ``(count, 3, num_frames, size, size)`` in [-1, 1].
    """
    count = len(attributes)
    scale = size / DEFAULTS.height
    colour, shape, direction, speed, background = attributes.unbind(1)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    radius = uniform(*_RADIUS_PX) * scale
    pace = torch.tensor([SPEED_PX[word] for word in SPEEDS])[speed] * scale
    pace = pace * uniform(1 - _SPEED_JITTER, 1 + _SPEED_JITTER)
    step = torch.tensor([_DIRECTION_STEP[word] for word in DIRECTIONS])[direction]
    length = pace * (num_frames - 1)
    # The triangle reaches furthest from its centre, 1.44 radii upwards; its sides 1.25.
    reach = torch.tensor([1.0, 0.9, 1.45])[shape] * radius + 1
    margin = (reach[:, None] + length[:, None] / 2 * step.abs()).clamp(max=size / 2)
    middle = margin + (size - 2 * margin) * torch.rand(count, 2, generator=generator)
    time = torch.arange(num_frames) / max(num_frames - 1, 1) - 0.5
    centre = middle[:, None] + step[:, None] * (length[:, None] * time)[..., None]

    grid = torch.arange(size) + 0.5
    dx = (grid[None, None, None, :] - centre[:, :, 0, None, None]).expand(-1, -1, size, -1)
    dy = (grid[None, None, :, None] - centre[:, :, 1, None, None]).expand(-1, -1, -1, size)
    radius = radius[:, None, None, None]
    distance = torch.empty_like(dx, memory_format=torch.contiguous_format)
    for i, name in enumerate(SHAPES):
        mine = shape == i
        distance[mine] = shape_distance(name, dx[mine], dy[mine], radius[mine])
    alpha = (0.5 - distance).clamp(0, 1)[:, None]

    ends = torch.tensor([palette.backgrounds[word] for word in BACKGROUNDS])[background]
    ends = ends + _COLOUR_JITTER * torch.randn(count, 1, 3, generator=generator)
    weight = (grid / size)[:, None]
    rows = ends[:, :1] * (1 - weight) + ends[:, 1:] * weight
    back = rows.transpose(1, 2)[:, :, None, :, None]
    front = torch.tensor([palette.colours[word] for word in COLOURS])[colour]
    front = front + _COLOUR_JITTER * torch.randn(count, 3, generator=generator)
    light = 1 - 0.2 * (dy / radius).clamp(-1, 1)  # lit from above
    front_pixels = front[:, :, None, None, None] * light[:, None]
    clip = back * (1 - alpha) + front_pixels * alpha
    return clip.clamp(0, 1) * 2 - 1
