"""Local folders with the guarantee of an object store: a file exists whole or not at all.

Handles temporary names, renames and fsync. `pipeline.storage.storage` handles retries and messages.
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

from pipeline.storage.keys import TEMP_PREFIX

_COPY_BYTES = 1 << 20


class LocalFiles(LocalFileSystem):
    """The local file system of fsspec, with atomic writes and a listing that tolerates changes."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write `value` to `path` atomically, creating missing folders; raises as `put_file`."""
        with _replacing(Path(path), create=mode == "create") as out:
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
            FileExistsError: `mode` is `create` and `path2` exists.
            OSError: `mode` is `create` and the file system has no hard links (`ENOTSUP`).
        """
        create = mode == "create"
        with Path(path1).open("rb") as source, _replacing(Path(path2), create=create) as out:
            shutil.copyfileobj(source, out, _COPY_BYTES)

    def find(self, path: str, **kwargs: Any) -> dict[str, dict[str, Any]]:
        """Every file below `path` with its size; {} if there is nothing."""
        return {name: {"type": "file", "size": size} for name, size in _walk(path or "/")}


@contextlib.contextmanager
def _replacing(path: Path, *, create: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file in the same folder; rename it to `path` if the block succeeds.

    Raises:
        FileExistsError: `create` is set and `path` exists.
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
            os.fsync(out.fileno())  # else a power cut can leave an empty file under the new name
        if create:
            _link(temp, path)
        else:
            temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def _link(temp: Path, path: Path) -> None:
    """Rename a file unless the new name is taken; a hard link makes this atomic."""
    try:
        path.hardlink_to(temp)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # FAT, some network and FUSE file systems
        raise OSError(errno.ENOTSUP, "no hard links here", str(path)) from error
    temp.unlink()


def _walk(top: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[str, int]]:
    """Files below a folder with their sizes, without those that vanish meanwhile.

    A link to a folder that it is in (`above` holds their device and inode numbers) is not followed.
    """
    try:
        found = Path(top).stat()
        children = list(os.scandir(top))
    except FileNotFoundError:
        return
    here = (found.st_dev, found.st_ino)
    if here in above:
        return
    for child in children:
        if child.is_dir():
            yield from _walk(child.path, above | {here})
        else:
            with contextlib.suppress(FileNotFoundError):
                yield child.path, child.stat().st_size
