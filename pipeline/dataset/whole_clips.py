"""Reads the clip of a row and checks it: it is there, and each byte is as the row says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StorageError
from pipeline.redaction import shown
from pipeline.storage.storage import Storage

THREADS = 16
LIST_AT_ONCE = 10_000
"""Clips up to which one listing asks for all of them."""
_GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


NEVER_EMPTY = ("caption", "width", "height", "num_frames", "fps")
"""Cells that every ok row has, and that trainers read."""


class DamagedClipError(Exception):
    """The media of an ok row is missing, or it is not the clip of that row."""

    def __init__(self, problem: str) -> None:
        """Say what is wrong; a hostile row may name anything."""
        super().__init__(shown(problem))


def clip_path(row: Mapping[str, Any]) -> str:
    """Path of a row's clip inside its prefix; "" if the row names none."""
    return (row["video"] or {}).get("path") or ""


def read_clip(storage: Storage, row: Mapping[str, Any]) -> bytes:
    """Return the mp4 of an ok row.

    Args:
        storage: The output prefix.
        row: Its `video`, `media_bytes` and `media_sha256` at least.

    Raises:
        DamagedClipError: What is wrong with the clip.
        StorageError: The store cannot be read; nothing is known of the clip.
    """
    path = clip_path(row)
    if not path:
        raise DamagedClipError("its row names no clip")
    if empty := [name for name in NEVER_EMPTY if name in row and row[name] is None]:
        raise DamagedClipError(f"its row has no {', '.join(empty)}")
    try:
        data = storage.read_bytes(path)
    except StorageError as error:
        if error.__cause__ is None:
            raise DamagedClipError("its row names a file outside of the prefix") from error
        if isinstance(error.__cause__, _GONE):
            raise DamagedClipError(f"{path} is missing") from error
        raise
    if len(data) != row["media_bytes"]:
        size = f"{len(data):,} bytes instead of {row['media_bytes'] or 0:,}"
        raise DamagedClipError(f"{path} has {size}")
    if hashlib.sha256(data).hexdigest() != row["media_sha256"]:
        raise DamagedClipError(f"{path} has another SHA-256 than its row says")
    return data


def missing_media(storage: Storage, paths: Any, sizes: Any, top: str = "media/") -> list[str]:
    """Return the paths of files that are not stored, or not with their size; reads none.

    Args:
        storage: The output prefix.
        paths: Column of paths inside the prefix; null is missing.
        sizes: Column of their bytes, in the same order.
        top: Folder of all of them.

    Raises:
        StorageError: The prefix cannot be listed.
    """
    if not len(paths):
        return []
    if len(paths) < LIST_AT_ONCE:
        listed = storage.list(top)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            folders = pool.map(storage.list, [f"{top}{n:02x}/" for n in range(256)])
            listed = [entry for folder in folders for entry in folder]
    there = pa.array([entry.key for entry in listed], pa.string())
    stored = pa.array([entry.size for entry in listed], pa.int64())
    del listed
    at = pc.index_in(paths, value_set=there)
    same = pc.equal(stored.take(at.combine_chunks()), sizes.combine_chunks()).fill_null(False)
    return [path or "a row without a path" for path in paths.filter(pc.invert(same)).to_pylist()]
