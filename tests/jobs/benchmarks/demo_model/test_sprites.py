"""Rendering of sprite clips."""

from __future__ import annotations

import pytest
import torch

from jobs.benchmarks.demo_model.captions import SHAPES, combinations, parse_caption
from jobs.benchmarks.demo_model.sprites import (
    attributes_of,
    draw_attributes,
    draw_captions,
    render,
    shape_distance,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clip_has_documented_shape_and_range() -> None:
    clip = render(draw_attributes(3, _generator()), _generator(1))
    assert clip.shape == (3, 3, 17, 64, 64)
    assert clip.dtype == torch.float32
    assert clip.min() >= -1
    assert clip.max() <= 1
    assert clip.std() > 0.1


def test_rendering_is_reproducible_and_varies_with_the_seed() -> None:
    rows = draw_attributes(2, _generator())
    first, again, other = (render(rows, _generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_clip_scales_with_its_size() -> None:
    rows = draw_attributes(4, _generator())
    small = render(rows, _generator(3), size=32)
    large = torch.nn.functional.avg_pool3d(render(rows, _generator(3), size=64), (1, 2, 2))
    assert (small - large).abs().mean() < 0.02


def _touches_border(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.clone()
    rows[:, 4] = 0  # a plain background shows any touch
    clip = render(rows, _generator(7))
    border = torch.cat([clip[..., 0, :], clip[..., -1, :], clip[..., 0], clip[..., -1]], -1)
    return (border.amax((2, 3)) - border.amin((2, 3))).amax(1) > 1e-5


def test_only_fast_triangles_touch_the_border() -> None:
    rows = torch.tensor(combinations(held_out=False)[::9])
    names = [attributes_of(row) for row in rows]
    fast_triangle = [name.shape == "triangle" and name.speed == "quickly" for name in names]
    touches = _touches_border(rows)
    assert not (touches & ~torch.tensor(fast_triangle)).any()


@pytest.mark.parametrize("direction", ["left", "right", "up", "down"])
def test_sprite_moves_as_told(direction: str) -> None:
    table = [row for row in combinations(held_out=False) if row[4] == 0]
    rows = torch.tensor(table)
    names = [attributes_of(row).direction for row in rows]
    rows = rows[[i for i, name in enumerate(names) if name == direction]][:6]
    bright = (render(rows, _generator(2)).amax(1) > -0.5).float()
    grid = torch.arange(64.0)
    area = bright.sum((2, 3))
    x = (bright.sum(2) * grid).sum(-1) / area
    y = (bright.sum(3) * grid).sum(-1) / area
    dx, dy = x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]
    along = {"left": -dx, "right": dx, "up": -dy, "down": dy}[direction]
    across = dy if direction in ("left", "right") else dx
    assert along.min() > 8
    assert across.abs().max() < 1


def test_shapes_have_similar_area() -> None:
    grid = torch.arange(-20.0, 20.0, 0.1)
    areas = [
        float((shape_distance(name, grid[None], grid[:, None], torch.tensor(10.0)) < 0).sum())
        for name in SHAPES
    ]
    assert max(areas) / min(areas) < 1.25


def test_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape"):
        shape_distance("star", torch.zeros(1), torch.zeros(1), torch.tensor(1.0))


def test_drawn_attributes_respect_the_split() -> None:
    held_out = set(combinations(held_out=True))
    trained = {tuple(row.tolist()) for row in draw_attributes(500, _generator())}
    tested = {tuple(row.tolist()) for row in draw_attributes(500, _generator(), held_out=True)}
    assert not trained & held_out
    assert tested <= held_out


def test_captions_sometimes_omit_speed_and_background() -> None:
    rows = draw_attributes(400, _generator())
    parsed = [parse_caption(text) for text in draw_captions(rows, _generator(1))]
    silent_speed = sum(attributes.speed is None for attributes in parsed) / len(parsed)
    silent_background = sum(attributes.background is None for attributes in parsed) / len(parsed)
    assert 0.08 < silent_speed < 0.22
    assert 0.08 < silent_background < 0.22
    for row, attributes in zip(rows, parsed, strict=True):
        full = attributes_of(row)
        assert attributes.colour == full.colour
        assert attributes.speed in (None, full.speed)
