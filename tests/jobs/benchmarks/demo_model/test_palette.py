"""Palettes: clips of each are read by its own, and a saved model says which one it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.benchmarks.demo_model.captions import BACKGROUNDS, COLOURS
from jobs.benchmarks.demo_model.evaluate import held_out_rows, score
from jobs.benchmarks.demo_model.palette import (
    MUTED,
    PALETTES,
    PLAIN,
    Palette,
    palette_of,
    save_palette,
)
from jobs.benchmarks.demo_model.sprites import attributes_of, render


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_every_word_has_a_colour_and_real_clips_are_read(palette: Palette) -> None:
    assert set(palette.colours) == set(COLOURS)
    assert set(palette.backgrounds) == set(BACKGROUNDS)
    rows = held_out_rows(40, 0)
    clips = render(rows, torch.Generator().manual_seed(0), palette=palette)
    shares = score(clips, [attributes_of(row) for row in rows], palette)
    assert shares["all"] == 1.0


def test_the_palettes_differ_enough_to_be_told_apart() -> None:
    rows = held_out_rows(40, 0)
    clips = render(rows, torch.Generator().manual_seed(0), palette=MUTED)
    shares = score(clips, [attributes_of(row) for row in rows], PLAIN)
    assert shares["shape"] > 0.9
    assert shares["all"] < 1.0


def test_a_folder_says_its_palette(tmp_path: Path) -> None:
    assert palette_of(tmp_path) is PLAIN
    save_palette(MUTED, tmp_path)
    assert palette_of(tmp_path) is MUTED
    (tmp_path / "palette.json").write_text('{"palette": "neon"}')
    with pytest.raises(ValueError, match="unknown palette 'neon', not one of plain, muted"):
        palette_of(tmp_path)
