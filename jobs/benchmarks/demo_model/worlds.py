"""What training clips show: sprites, or scenes of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from jobs.benchmarks.demo_model.captions import caption_words
from jobs.benchmarks.demo_model.palette import PLAIN, Palette, save_palette
from jobs.benchmarks.demo_model.pictures import scenes
from jobs.benchmarks.demo_model.pictures.spec import CAPTIONS, SIZE
from jobs.benchmarks.demo_model.sprites import draw_attributes, draw_captions, render
from pipeline.models.demo import DEFAULTS


class ClipWorld(Protocol):
    """A source of captioned clips."""

    def __hash__(self) -> int:
        """So that rendered clips can be kept by their source."""

    @property
    def size(self) -> int:
        """Height and width of clips in pixels."""

    @property
    def words(self) -> list[str]:
        """Every word that a caption can contain, in the order of their token ids."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws what clips of the training side show, ``(count, 5)`` integers."""

    def render(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Renders them: ``(count, 3, frames, size, size)`` in [-1, 1]."""

    def captions(self, chosen: Tensor, generator: torch.Generator) -> list[str]:
        """Describes them."""

    def describe(self, folder: Path) -> None:
        """Writes into a saved pipeline's folder what it was trained on."""


@dataclass(frozen=True)
class SpriteWorld:
    """Sprites in the colours of a palette.

    Attributes:
        palette: What the colours of captions look like.
        size: Height and width of clips in pixels.
    """

    palette: Palette = PLAIN
    size: int = DEFAULTS.height

    def __hash__(self) -> int:
        """By the palette's name: its colours stand in dictionaries."""
        return hash((self.palette.name, self.size))

    @property
    def words(self) -> list[str]:
        """See :class:`ClipWorld`."""
        return caption_words()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """See :class:`ClipWorld`."""
        return draw_attributes(count, generator)

    def render(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """See :class:`ClipWorld`."""
        return render(chosen, generator, palette=self.palette)

    def captions(self, chosen: Tensor, generator: torch.Generator) -> list[str]:
        """See :class:`ClipWorld`."""
        return draw_captions(chosen, generator)

    def describe(self, folder: Path) -> None:
        """Names the palette."""
        save_palette(self.palette, folder)


@dataclass(frozen=True)
class PictureWorld:
    """Photographs behind one another; captions of the held-out side go into the saved folder.

    Attributes:
        size: Height and width of clips in pixels.
    """

    size: int = SIZE

    @property
    def words(self) -> list[str]:
        """See :class:`ClipWorld`."""
        return scenes.scene_words()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """See :class:`ClipWorld`."""
        table = torch.tensor(scenes.scenes(held_out=False))
        return table[torch.randint(len(table), (count,), generator=generator)]

    def render(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """See :class:`ClipWorld`."""
        return scenes.render_scenes(chosen, generator, DEFAULTS.num_frames, self.size)

    def captions(self, chosen: Tensor, generator: torch.Generator) -> list[str]:
        """See :class:`ClipWorld`."""
        return scenes.draw_scene_captions(chosen, generator)

    def describe(self, folder: Path) -> None:
        """Lists held-out captions, one a line."""
        lines = [scenes.scene_caption(scene) for scene in scenes.scenes(held_out=True)]
        (folder / CAPTIONS).write_text("\n".join(lines) + "\n", encoding="utf-8")
