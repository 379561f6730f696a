"""Scenes of two photographs: one behind, seen by a moving camera, and a disc of one in front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from jobs.benchmarks.demo_model.pictures.photographs import PHOTOGRAPHS, load_photograph

CAMERA = {
    "panning left": (-1.0, 0.0, 0.0, 0.0),
    "panning right": (1.0, 0.0, 0.0, 0.0),
    "panning up": (0.0, -1.0, 0.0, 0.0),
    "panning down": (0.0, 1.0, 0.0, 0.0),
    "zooming in": (0.0, 0.0, -1.0, 0.0),
    "zooming out": (0.0, 0.0, 1.0, 0.0),
    "turning left": (0.0, 0.0, 0.0, -1.0),
    "turning right": (0.0, 0.0, 0.0, 1.0),
}
"""Motions of the camera: across, down, growth of the field of view, rotation."""

SPEEDS = {"slowly": 0.4, "quickly": 1.0}
PATHS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
WORDS = tuple(photograph.word for photograph in PHOTOGRAPHS)
PARTS: tuple[tuple[str, ...], ...] = (WORDS, tuple(CAMERA), tuple(SPEEDS), WORDS, tuple(PATHS))
"""What a caption says, in the order of scene tensors: the photograph behind, the motion of the
camera, its speed, the photograph in front, and where that moves."""

_FIELD = (0.22, 0.34)
"""Half of the field of view, in halves of a photograph's shorter side."""
_PAN, _ZOOM, _TURN = 0.3, 0.45, math.pi / 5
"""What a quick camera does within a clip: in the same unit, in powers of e, in radians."""
_RADIUS, _PATH_LENGTH = (0.28, 0.38), 0.7
"""Of the disc in front, in halves of the frame."""
_HELD_OUT = 7
_DROP_PROBABILITY = 0.15


def scenes(held_out: bool) -> list[tuple[int, ...]]:
    """List the scenes of one side of the split; one in seven is never trained on.

    As with sprites, every word is equally frequent on both sides, or nearly so, and only the
    combinations are new.

    Returns:
        Index tuples in the order of `PARTS`; the two photographs differ.
    """
    weights = (1, 2, 3, 1, 1)
    return [
        scene
        for scene in itertools.product(*(range(len(words)) for words in PARTS))
        if scene[0] != scene[3]
        and (sum(w * i for w, i in zip(weights, scene, strict=True)) % _HELD_OUT == 0) == held_out
    ]


def scene_caption(scene: Sequence[int], with_speed: bool = True) -> str:
    """Describe a scene.

    Args:
        scene: Indices in the order of `PARTS`.
        with_speed: Whether to mention the speed of the camera.
    """
    behind, camera, speed, front, path = (
        words[int(index)] for words, index in zip(PARTS, scene, strict=True)
    )
    pace = f" {speed}" if with_speed else ""
    return f"the {behind} {camera}{pace} behind a {front} moving {path}"


def scene_words() -> list[str]:
    """Return every word a caption can contain, in the order of their token ids."""
    others = " ".join(itertools.chain(CAMERA, SPEEDS, PATHS)).split()
    return list(dict.fromkeys(["the", "a", "behind", "moving", *WORDS, *others]))


def draw_scene_captions(chosen: Tensor, generator: torch.Generator) -> list[str]:
    """Describe scenes ``(count, 5)``, some of them without the speed."""
    keep = torch.rand(len(chosen), generator=generator) >= _DROP_PROBABILITY
    return [
        scene_caption(scene, bool(speed))
        for scene, speed in zip(chosen.tolist(), keep, strict=True)
    ]


def render_scenes(chosen: Tensor, generator: torch.Generator, num_frames: int, size: int) -> Tensor:
    """Render scenes; place, field of view and radius vary.

    Args:
        chosen: Integer tensor ``(count, 5)``.
        generator: Source of randomness.
        num_frames: Frames per clip.
        size: Height and width in pixels.

    Returns:
        Float tensor ``(count, 3, num_frames, size, size)`` in [-1, 1].
    """
    clips = [_render(scene, generator, num_frames, size) for scene in chosen.tolist()]
    return torch.stack(clips)


def _render(scene: Sequence[int], generator: torch.Generator, num_frames: int, size: int) -> Tensor:
    behind, camera, speed, front, path = scene

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    time = torch.arange(num_frames) / max(num_frames - 1, 1) - 0.5
    across, down, growth, turn = (
        part * tuple(SPEEDS.values())[speed] for part in tuple(CAMERA.values())[camera]
    )
    field = uniform(*_FIELD) * torch.exp(_ZOOM * growth * time)
    offset = _PAN * time[:, None] * torch.tensor([across, down])
    back = _window(behind, field, offset, _TURN * turn * time, generator, size)

    radius = uniform(*_RADIUS)
    step = torch.tensor(tuple(PATHS.values())[path])
    way = _PATH_LENGTH * time[:, None] * step
    free = 1 - radius - _PATH_LENGTH / 2 * step.abs()  # how far the middle of the path may lie off
    centre = way + free * torch.tensor([uniform(-1, 1), uniform(-1, 1)])
    # The texture moves with the disc: the disc is a window on its photograph that stands still.
    still = torch.full((num_frames,), uniform(*_FIELD))
    texture = _window(front, still, -centre * still[:, None], 0 * time, generator, size)
    pixels = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = pixels[None, None, :], pixels[None, :, None]
    distance = ((x - centre[:, 0, None, None]) ** 2 + (y - centre[:, 1, None, None]) ** 2).sqrt()
    alpha = ((radius - distance) * size / 2 + 0.5).clamp(0, 1)
    return (back * (1 - alpha) + texture * alpha).clamp(-1, 1)


def _window(
    photograph: int,
    field: Tensor,
    offset: Tensor,
    angle: Tensor,
    generator: torch.Generator,
    size: int,
) -> Tensor:
    """Look at a photograph through a square window.

    Args:
        photograph: Index of the photograph.
        field: Half of the window's side in each frame, in halves of the photograph's shorter side.
        offset: Place of the window in each frame from where it is on average, same unit.
        angle: Rotation of the window in each frame, radians.
        generator: Source of where that is.
        size: Side of the frames in pixels.

    Returns:
        ``(3, frames, size, size)``.
    """
    pixels = load_photograph(PHOTOGRAPHS[photograph])
    height, width = pixels.shape[1:]
    shorter = min(height, width)
    reach = float(field.max()) * math.sqrt(2)
    room = [
        max(0.0, side / shorter - reach - float(offset[:, axis].abs().max()))
        for axis, side in enumerate((width, height))
    ]
    middle = torch.tensor(room) * (2 * torch.rand(2, generator=generator) - 1)
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    scale = field[:, None, None]
    place = (middle + offset)[:, :, None, None]
    grid_x = (place[:, 0] + scale * (cosine * x - sine * y)) * shorter / width
    grid_y = (place[:, 1] + scale * (sine * x + cosine * y)) * shorter / height
    frames = functional.grid_sample(
        pixels.expand(len(field), -1, -1, -1),
        torch.stack([grid_x, grid_y], dim=-1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return frames.transpose(0, 1)
