"""Pictures and small clips for a page that has no server: data URIs within a budget.

A clip that is small goes in as it is; a larger one is made anew, narrow and coarse. What does not
fit, or is not there, is left out and the page says so.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import media
from pipeline.errors import StorageError
from pipeline.report.document import Clip
from pipeline.storage import Storage

BUDGET_BYTES = 3_500_000
"""Of all clips and pictures together, as text; plotly.js takes 4.8 MB of a page's 10."""

AS_IT_IS_BYTES = 60_000
WIDTH = 320
CRF = 30
POSTER_QUALITY = 72
READ_THREADS = 3
"""A clip of 720p takes 200 MB while it is decoded."""
MAX_FRAMES = 480


@dataclass(frozen=True, slots=True)
class Preview:
    """One clip on the page.

    Attributes:
        poster: Data URI of a frame from its middle.
        video: Data URI, "" where it did not fit.
        width: Of the clip, pixels.
        height: Of the clip, pixels.
    """

    poster: str
    video: str
    width: int
    height: int


def previews(storage: Storage, clips: Sequence[Clip]) -> dict[str, Preview]:
    """Previews of clips and of their controls by id; those whose media cannot be read are absent.

    Args:
        storage: The output prefix.
        clips: In the order of their importance: earlier ones get the room.
    """
    paths: dict[str, str] = {}
    for clip in clips:
        paths.setdefault(clip.sample_id, clip.path)
        if clip.control_id:
            paths.setdefault(clip.control_id, clip.control_path)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        made = list(pool.map(lambda path: _preview(storage, path), paths.values()))
    found: dict[str, Preview] = {}
    room = BUDGET_BYTES - sum(len(preview.poster) for preview in made if preview)
    for sample_id, preview in zip(paths, made, strict=True):
        if preview is None:
            continue
        fits = len(preview.video) <= room
        room -= len(preview.video) if fits else 0
        video = preview.video if fits else ""
        found[sample_id] = Preview(preview.poster, video, preview.width, preview.height)
    return found


def _preview(storage: Storage, path: str) -> Preview | None:
    try:
        data = storage.read_bytes(path)
        frames = media.decode(data)
    except (StorageError, ValueError):
        return None
    _, height, width, _ = frames.shape
    middle = Image.fromarray(frames[len(frames) // 2])
    middle.thumbnail((WIDTH, WIDTH))
    out = io.BytesIO()
    middle.save(out, format="JPEG", quality=POSTER_QUALITY, optimize=True)
    small = data if len(data) <= AS_IT_IS_BYTES else _smaller(frames, data)
    return Preview(_uri("image/jpeg", out.getvalue()), _uri("video/mp4", small), width, height)


def _smaller(frames: media.Frames, data: bytes) -> bytes:
    scale = min(1.0, WIDTH / max(frames.shape[1:3]))
    height, width = (max(2, round(side * scale / 2) * 2) for side in frames.shape[1:3])
    shown = np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
            for frame in frames[:MAX_FRAMES]
        ]
    )
    fps = max(1, round(media.frame_rate(data)))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "preview.mp4"
        media.encode(shown, fps, {}, target, crf=CRF)
        made = target.read_bytes()
    return made if len(made) < len(data) else data


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
