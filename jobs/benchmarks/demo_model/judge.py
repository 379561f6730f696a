"""A geometric classifier that reads the attributes of a sprite clip from its pixels.

It separates the sprite from the background, follows it, and compares its outline with templates. It
knows nothing of the model. On real clips it is practically always right, so an error that it finds
in a generated clip is an error of that clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.benchmarks.demo_model.captions import BACKGROUNDS, COLOURS, SHAPES, SPEEDS, Attributes
from jobs.benchmarks.demo_model.palette import PLAIN, Palette
from jobs.benchmarks.demo_model.sprites import SPEED_PX, shape_distance

_MIN_CONTRAST = 0.12
_MIN_AREA_SHARE = 0.01
_VANISH_SHARE = 0.4
_JUMP_PX = 3.0
_STILL_PX = 0.2
_LIGHT = (0.65, 0.75, 0.85, 0.95, 1.05, 1.15)


@dataclass(frozen=True)
class SpriteReading:
    """What the judge sees in a clip.

    Attributes:
        seen: The attributes, or ``None`` if no sprite is found.
        vanished: In some frame the sprite is missing, or has under two fifths of its usual area.
        jumped: In some frame the sprite is over three pixels (of 64) off its straight path.
        fit: Mean overlap (intersection over union) of the outline with the best template.
        speed_px: Fitted speed, pixels per frame at a size of 64 pixels.
    """

    seen: Attributes | None
    vanished: bool
    jumped: bool
    fit: float = 0.0
    speed_px: float = 0.0


def agreement(verdict: SpriteReading, wanted: Attributes) -> dict[str, bool]:
    """Compares a verdict with what a caption asked for.

    Returns:
        For each attribute that the caption names, whether the clip shows it; ``"all"`` for all of
        them together.
    """
    asked = {name: word for name, word in vars(wanted).items() if word is not None}
    right = {
        name: verdict.seen is not None and getattr(verdict.seen, name) == word
        for name, word in asked.items()
    }
    return {**right, "all": all(right.values())}


def _length(vectors: Tensor, dim: int) -> Tensor:
    """Euclidean lengths; `Tensor.norm` takes ten times as long along any but the last dimension."""
    return vectors.square().sum(dim).sqrt()


def _segment(clip: Tensor, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Separates the sprite from its background.

    Args:
        clip: ``(3, frames, size, size)`` in [0, 1].
        rows: Background colour of each row, ``(3, size)``.

    Returns:
        Boolean mask ``(frames, size, size)`` and the sprite's colour ``(3,)``, or ``None`` if
        nothing stands out.
    """
    from_back = _length(clip - rows[:, None, :, None], 0)
    level = from_back.flatten().quantile(0.97)
    if level < _MIN_CONTRAST:
        return None
    colour = clip[:, from_back > 0.6 * level].mean(1)
    # A pixel belongs to the nearer of the two; the sprite is brighter above than below.
    lights = torch.tensor(_LIGHT)[:, None] * colour
    from_sprite = _length(clip[None] - lights[..., None, None, None], 1).amin(0)
    return from_back > from_sprite, colour


def _shape(mask: Tensor, area: Tensor, x: Tensor, y: Tensor) -> tuple[str, float]:
    """Finds the template of equal area and centre that overlaps the masks best.

    Args:
        mask: Boolean masks of the frames with a sprite, ``(frames, size, size)``.
        area: Their areas in pixels, ``(frames,)``.
        x: Their centroids' columns, ``(frames,)``.
        y: Their centroids' rows, ``(frames,)``.

    Returns:
        The shape and its overlap, averaged over frames.
    """
    grid = torch.arange(mask.shape[-1]) + 0.5
    dx = (grid[None, None, :] - x[:, None, None]).expand(mask.shape)
    dy = (grid[None, :, None] - y[:, None, None]).expand(mask.shape)
    overlaps = {}
    for shape in SHAPES:
        # Area grows as the square of the radius: measure it once at a known radius.
        fine = (torch.arange(256) - 127.5) / 40
        unit = shape_distance(shape, fine[None, :], fine[:, None], torch.tensor(1.0)) < 0
        radius = (area / (unit.float().sum() / 40**2)).sqrt()[:, None, None]
        template = shape_distance(shape, dx, dy, radius) < 0
        both = (template & mask).sum((1, 2)).float()
        either = (template | mask).sum((1, 2)).float()
        overlaps[shape] = float((both / either).mean())
    best = max(overlaps, key=overlaps.__getitem__)
    return best, overlaps[best]


def _nearest(colour: Tensor, references: dict[str, Tensor]) -> str:
    return min(references, key=lambda word: float((references[word] - colour).norm()))


def _background(rows: Tensor, palette: Palette) -> str:
    """Names a background from the colours of its rows, ``(3, size)``."""
    edge = max(1, rows.shape[1] // 8)
    seen = torch.cat([rows[:, :edge].mean(1), rows[:, -edge:].mean(1)])
    references = {word: torch.tensor(palette.backgrounds[word]).flatten() for word in BACKGROUNDS}
    return _nearest(seen, references)


def _judge_one(clip: Tensor, palette: Palette) -> SpriteReading:
    clip = ((clip.float() + 1) / 2).clamp(0, 1)
    frames, size = clip.shape[1], clip.shape[-1]
    rows = clip.permute(0, 2, 1, 3).flatten(2).median(-1).values
    segment = _segment(clip, rows)
    if segment is None:
        return SpriteReading(None, vanished=True, jumped=False)
    mask, colour = segment
    area = mask.sum((1, 2)).float()
    usual = area[area > _MIN_AREA_SHARE * size * size].quantile(0.5)
    visible = area > torch.maximum(
        _VANISH_SHARE * usual, torch.tensor(_MIN_AREA_SHARE * size * size)
    )
    if visible.sum() < max(2, frames // 2):
        return SpriteReading(None, vanished=True, jumped=False)

    mask, area = mask[visible], area[visible]
    grid = torch.arange(size) + 0.5
    x = (mask.sum(1) * grid).sum(-1) / area
    y = (mask.sum(2) * grid).sum(-1) / area
    time = torch.arange(frames).float()[visible]
    basis = torch.stack([torch.ones_like(time), time - time.mean()], dim=1)
    track = torch.stack([x, y], dim=1)
    path = torch.linalg.lstsq(basis, track).solution
    scale = 64 / size
    jumped = bool((track - basis @ path).norm(dim=1).max() * scale > _JUMP_PX)
    vx, vy = (float(v) * scale for v in path[1])
    speed_px = max(abs(vx), abs(vy))
    if speed_px < _STILL_PX:
        direction = "still"
    elif abs(vx) > abs(vy):
        direction = "left" if vx < 0 else "right"
    else:
        direction = "up" if vy < 0 else "down"
    halfway = sum(SPEED_PX.values()) / 2
    shape, fit = _shape(mask, area, x, y)
    seen = Attributes(
        colour=_nearest(colour, {word: torch.tensor(palette.colours[word]) for word in COLOURS}),
        shape=shape,
        direction=direction,
        speed=SPEEDS[int(speed_px > halfway)],
        background=_background(rows, palette),
    )
    return SpriteReading(seen, not bool(visible.all()), jumped, fit, speed_px)


@torch.no_grad()
def judge(clips: Tensor, palette: Palette = PLAIN) -> list[SpriteReading]:
    """Judges clips one by one.

    Args:
        clips: ``(count, 3, frames, size, size)`` in [-1, 1].
        palette: What the colours of captions look like.

    Returns:
        One verdict per clip.

    Raises:
        ValueError: The clips are not square RGB videos.
    """
    if clips.ndim != 5 or clips.shape[1] != 3 or clips.shape[-1] != clips.shape[-2]:
        raise ValueError(f"expected (count, 3, frames, size, size), got {tuple(clips.shape)}")
    return [_judge_one(clip, palette) for clip in clips]
