"""Local folders with the guarantee of an object store: a file is there whole or not at all.

Knows temporary names, renames and fsync. Retries and wording are `pipeline.storage.storage`'s
business.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

TEMP_PREFIX = ".tmp-"
"""File names that start so are unfinished writes."""

_COPY_BYTES = 1 << 20


class LocalFiles(LocalFileSystem):
    """The local file system of fsspec, with atomic writes and a listing that tolerates change."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write `value` to `path` atomically, creating missing folders."""
        with _replacing(Path(path)) as out:
            out.write(value)

    def put_file(
        self,
        path1: str,
        path2: str,
        callback: Any = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy the file `path1` to `path2` atomically, creating missing folders.

        Raises:
            FileExistsError: Mode `create`, and something is there.
        """
        create = mode == "create"
        with Path(path1).open("rb") as source, _replacing(Path(path2), create=create) as out:
            shutil.copyfileobj(source, out, _COPY_BYTES)

    def find(self, path: str, **kwargs: Any) -> dict[str, dict[str, Any]]:
        """Map every file below `path` to its size; {} where nothing is there."""
        return {name: {"type": "file", "size": size} for name, size in _walk(path or "/")}


@contextlib.contextmanager
def _replacing(path: Path, *, create: bool = False) -> Iterator[BinaryIO]:
    """Give a temporary file in the same folder; it takes the name of `path` when all went well.

    Raises:
        FileExistsError: `create`, and the name is taken.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{uuid.uuid4().hex}")
    try:
        out = temp.open("xb")
    except FileNotFoundError:
        temp.parent.mkdir(parents=True, exist_ok=True)
        out = temp.open("xb")
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())  # else a power cut can leave the new name with no content
        if create:
            _link(temp, path)
        else:
            temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def _link(temp: Path, path: Path) -> None:
    """Give a file its name if that is free: a hard link does so atomically."""
    try:
        path.hardlink_to(temp)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():  # no hard links here (FAT, some network and FUSE file systems)
            raise FileExistsError(errno.EEXIST, "the name is taken", str(path)) from error
        temp.replace(path)
    else:
        temp.unlink()


def _walk(top: str) -> Iterator[tuple[str, int]]:
    """Files below a folder with their sizes; one that vanishes meanwhile is not there."""
    try:
        children = list(os.scandir(top))
    except FileNotFoundError:
        return
    for child in children:
        if child.is_dir():
            yield from _walk(child.path)
        else:
            with contextlib.suppress(FileNotFoundError):
                yield child.path, child.stat().st_size
