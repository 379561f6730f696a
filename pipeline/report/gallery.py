"""The clips of the page's gallery: which are shown, and their previews as data URIs.

The page has no server, so previews are embedded, up to a total size. A small clip is embedded as it
is; a larger one is encoded again, smaller and coarser. A clip that does not fit or cannot be read
is left out, and the page says so.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.dataset import mp4
from pipeline.errors import StorageError
from pipeline.report.base import ClipEntry
from pipeline.report.pairs import ComparedPairs
from pipeline.report.rows import RowRoles, Rows
from pipeline.storage.storage import Storage

BUDGET_BYTES = 3_500_000
"""Total size of the embedded clips and pictures, as text, so that a page goes into a mail."""

AS_IT_IS_BYTES = 60_000
WIDTH = 320
CRF = 30
POSTER_QUALITY = 72
READ_THREADS = 3
"""A decoded 720p clip takes 200 MB."""
MAX_FRAMES = 480

GALLERY = 12
WORST = 10


@dataclass(frozen=True, slots=True)
class Preview:
    """One clip on the page.

    Attributes:
        poster: Data URI of the middle frame.
        video: Data URI of the clip, "" if it did not fit.
        width: Width of the clip in pixels.
        height: Height of the clip in pixels.
    """

    poster: str
    video: str
    width: int
    height: int


def previews(storage: Storage, clips: Sequence[ClipEntry]) -> dict[str, Preview]:
    """Make previews of clips and of their controls, by id; unreadable media are left out.

    Args:
        storage: The output prefix.
        clips: The most important first: earlier clips get the available space.
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
        frames = mp4.decode(data)
    except (StorageError, ValueError):
        return None
    _, height, width, _ = frames.shape
    middle = Image.fromarray(frames[len(frames) // 2])
    middle.thumbnail((WIDTH, WIDTH))
    out = io.BytesIO()
    middle.save(out, format="JPEG", quality=POSTER_QUALITY, optimize=True)
    small = data if len(data) <= AS_IT_IS_BYTES else _smaller(frames, data)
    return Preview(_uri("image/jpeg", out.getvalue()), _uri("video/mp4", small), width, height)


def _smaller(frames: mp4.Frames, data: bytes) -> bytes:
    scale = min(1.0, WIDTH / max(frames.shape[1:3]))
    height, width = (max(2, round(side * scale / 2) * 2) for side in frames.shape[1:3])
    shown = np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
            for frame in frames[:MAX_FRAMES]
        ]
    )
    fps = max(1, round(mp4.frame_rate(data)))
    made = mp4.encode(shown, fps, {}, crf=CRF)
    return made if len(made) < len(data) else data


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def gallery(rows: Rows, roles: RowRoles, pairs: ComparedPairs) -> list[ClipEntry]:
    """Choose clips for the gallery: pairs first, then others, evenly spaced in the order of ids."""
    ids = np.array(rows.table["sample_id"].take(pa.array(pairs.clips)).to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    chosen = [(int(pairs.clips[i]), int(pairs.controls[i])) for i in even(order, GALLERY)]
    if len(chosen) < GALLERY:
        paired = {clip for clip, _ in chosen}
        others = np.array([i for i in np.flatnonzero(roles.clips)[:10_000] if i not in paired])
        chosen += [(int(i), -1) for i in even(others, GALLERY - len(chosen))]
    return clip_entries(rows, chosen)


def worst(rows: Rows, pairs: ComparedPairs) -> list[ClipEntry]:
    """Choose the cached clips that are farthest from their controls, the farthest first."""
    psnr = rows.numbers("psnr_db")[pairs.controls]
    known = np.flatnonzero(np.isfinite(psnr))
    order = known[np.argsort(psnr[known], kind="stable")][:WORST]
    return clip_entries(rows, [(int(pairs.clips[i]), int(pairs.controls[i])) for i in order])


def even(values: Any, count: int) -> Any:
    """Choose up to `count` values, evenly spaced."""
    if not len(values):
        return values
    at = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).astype(np.int64))
    return values[at]


def _path(row: Mapping[str, Any]) -> str:
    """Place of a row's clip; "" if a damaged row names none."""
    return (row["video"] or {}).get("path") or ""


def _known(value: Any, unknown: Any) -> Any:
    """A cell, or what stands for an empty one: null, or NaN."""
    return unknown if value is None or value != value else value


def clip_entries(rows: Rows, chosen: Sequence[tuple[int, int]]) -> list[ClipEntry]:
    """Read what the page shows of clips.

    Args:
        rows: Of the prefix.
        chosen: Positions of clips and of their controls; -1 where none is shown.
    """
    whole = rows.whole([place for pair in chosen for place in pair if place >= 0])
    found = []
    for place, twin in chosen:
        row = whole[place]
        control: dict[str, Any] = {}
        again_s: float | None = None
        cache = row["cache"] or {}
        if twin >= 0:
            other = whole[twin]
            quality = other.get("quality") or {}
            control = {
                "control_id": other["sample_id"],
                "control_path": _path(other),
                "control_wall_s": _known(other["wall_s"], None),
                "psnr_db": quality.get("psnr_db"),
                "ssim": quality.get("ssim"),
            }
            again_s = quality.get("clip_wall_s")
        found.append(
            ClipEntry(
                sample_id=row["sample_id"],
                caption=_known(row["caption"], ""),
                path=_path(row),
                model=_known(row["model"], ""),
                seed=_known(row.get("seed_u64"), _known(row["seed"], 0)),
                policy=_known(cache.get("policy"), ""),
                nfe=_known(cache.get("nfe"), 0),
                steps=_known(row["num_inference_steps"], 0),
                # Where the clip was made again beside the control that is shown, that time.
                wall_s=again_s or _known(row["wall_s"], 0.0),
                **control,
            )
        )
    return found
