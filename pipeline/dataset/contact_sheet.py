"""The contact sheet: one picture with a few frames of each clip, side by side, and its caption."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset import mp4
from pipeline.storage.storage import Storage

MAX_CLIPS = 16
COLUMNS = 2
FRAMES = 5
CELL_WIDTH = 120
GAP = 4
MARGIN = 10
CAPTION_CHARS = 92
INK, PAPER = (230, 230, 230), (24, 24, 28)


def contact_sheet(storage: Storage, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw up to `MAX_CLIPS` clips as rows of `FRAMES` evenly spaced frames.

    Args:
        storage: The output prefix that holds the rows' media.
        rows: Output rows with status ok, as dictionaries.

    Returns:
        A PNG.

    Raises:
        ValueError: There is no row to draw.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one clip")
    cells = [_cell(storage, row) for row in rows[:MAX_CLIPS]]
    width = max(cell.width for cell in cells)
    height = max(cell.height for cell in cells)
    columns = min(COLUMNS, len(cells))
    lines = -(-len(cells) // columns)
    sheet = Image.new(
        "RGB",
        (
            columns * width + (columns + 1) * MARGIN,
            lines * height + (lines + 1) * MARGIN,
        ),
        PAPER,
    )
    for index, cell in enumerate(cells):
        line, column = divmod(index, columns)
        sheet.paste(cell, (MARGIN + column * (width + MARGIN), MARGIN + line * (height + MARGIN)))
    out = io.BytesIO()
    sheet.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _cell(storage: Storage, row: Mapping[str, Any]) -> Image.Image:
    frames = mp4.decode(storage.read_bytes(row["video"]["path"]))
    chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
    height = max(1, round(CELL_WIDTH * chosen.shape[1] / chosen.shape[2]))
    font = ImageFont.load_default(size=12)
    cell = Image.new("RGB", (FRAMES * CELL_WIDTH + (FRAMES - 1) * GAP, height + 20), PAPER)
    for index, frame in enumerate(chosen):
        picture = Image.fromarray(frame).resize((CELL_WIDTH, height), Image.Resampling.LANCZOS)
        cell.paste(picture, (index * (CELL_WIDTH + GAP), 20))
    caption = textwrap.shorten(row["caption"], CAPTION_CHARS, placeholder=" ...")
    # The built-in font is Latin only: anything else would raise instead of drawing.
    caption = caption.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(cell).text((0, 2), caption, fill=INK, font=font)
    return cell
