"""What a run left, read without the pipeline's own code: from the S3 server or from a folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from tests.chaos.store import Store

DISK_BYTES = 4 << 20


class Result(Protocol):
    """An output prefix as the checks see it."""

    def media(self) -> frozenset[str]:
        """Ids whose media is stored."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Every row of every part."""
        ...

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each media file by its path in the prefix."""
        ...


class StoredResult:
    """On the S3 server."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def media(self) -> frozenset[str]:
        return frozenset(map(_id, self._store.keys(f"{self._prefix}/media/")))

    def rows(self) -> list[dict[str, Any]]:
        keys = self._store.keys(f"{self._prefix}/data/part-")
        tables = [pq.read_table(io.BytesIO(self._store.read(key))) for key in keys]
        return [row for table in tables for row in table.to_pylist()]

    def hashes(self) -> dict[str, str]:
        keys = self._store.keys(f"{self._prefix}/media/")
        own = len(self._prefix) + 1
        return {key[own:]: hashlib.sha256(self._store.read(key)).hexdigest() for key in keys}


class LocalResult:
    """In a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def media(self) -> frozenset[str]:
        return frozenset(_id(path.name) for path in self._files())

    def rows(self) -> list[dict[str, Any]]:
        parts = sorted(self._folder.glob("data/part-*.parquet"))
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    def hashes(self) -> dict[str, str]:
        return {
            p.relative_to(self._folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in self._files()
        }

    def _files(self) -> list[Path]:
        return [path for path in self._folder.glob("media/*/*.mp4") if path.name[0] != "."]


def can_mount() -> bool:
    """Whether this user may mount the small disk."""
    try:
        with small_disk():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        options = f"size={DISK_BYTES}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            check=True,
            capture_output=True,
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


def _id(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".mp4").partition("-")[0]
