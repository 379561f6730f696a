"""Local folders with the guarantee of an object store: a file exists whole or not at all.

Handles temporary names, renames and fsync. `pipeline.storage.storage` handles retries and messages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pipeline.storage.keys import TEMP_PREFIX

_COPY_BYTES = 1 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MODE = 0o666  # less the process's umask


class LocalFiles(LocalFileSystem):
    """The local file system of fsspec, with atomic writes and a listing that tolerates changes."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write `value` to `path` atomically, creating missing folders.

        Raises:
            FileExistsError: `mode` is `create` and `path` exists.
            OSError: `mode` is `create` and the file system has no hard links (`ENOTSUP`).
        """
        with _replacing(path, create=mode == "create") as out:
            _write(out, value)

    def put_file(
        self,
        path1: str,
        path2: str,
        callback: Any = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy the file `path1` to `path2` atomically, creating missing folders; as `pipe_file`."""
        with (
            Path(path1).open("rb") as source,
            _replacing(path2, create=mode == "create") as out,
        ):
            while part := source.read(_COPY_BYTES):
                _write(out, part)

    def find(self, path: str, **kwargs: Any) -> dict[str, dict[str, Any]]:
        """Every file below `path` with its size; {} if there is nothing."""
        return {name: {"type": "file", "size": size} for name, size in _walk(path or "/")}


@contextlib.contextmanager
def _replacing(path: str, *, create: bool = False) -> Iterator[int]:
    """Open a temporary file in the same folder; rename it to `path` if the block succeeds.

    Every clip passes here, so it works with names and descriptors: `pathlib` and buffered files
    took more time than the system calls.

    Raises:
        FileExistsError: `create` is set and `path` exists.
    """
    folder = path.rpartition("/")[0]
    temp = f"{folder}/{TEMP_PREFIX}{uuid.uuid4().hex}"
    try:
        out = os.open(temp, _NEW_FILE, _MODE)
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)
        out = os.open(temp, _NEW_FILE, _MODE)
    try:
        try:
            yield out
            os.fsync(out)  # else a power cut can leave an empty file under the new name
        finally:
            os.close(out)
        if create:
            _link(temp, path)
        else:
            os.replace(temp, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)  # noqa: PTH108
        raise


def _write(out: int, data: bytes) -> None:
    """Write all of `data`; one call writes up to 2 GiB."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(out, rest) :]


def _link(temp: str, path: str) -> None:
    """Rename a file unless the new name is taken; a hard link makes this atomic."""
    try:
        os.link(temp, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # FAT, some network and FUSE file systems
        raise OSError(errno.ENOTSUP, "no hard links here", path) from error
    os.unlink(temp)  # noqa: PTH108


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
