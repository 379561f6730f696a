"""The only door to files: local folders, S3 and anything else that fsspec supports.

Writes a file whole or not at all, lists without a stale cache, and retries transient errors
(`pipeline.storage.faults` says which are). Knows nothing of what the files mean.

Assumptions about a store: a put is visible whole or not at all, and once it is answered, every
later read and listing sees it (S3 since December 2020, and every local file system). Of several
conditional creates one wins, unless the store ignores or refuses the condition: `check_writable`
finds that out, and writers then use names of their own.

One operation is one request on an object store (a file of 100 MB and more is a multipart upload).
Only `pipeline.storage.retries` retries; `pipeline.storage.file_system` turns off the retries below.
Messages never contain credentials.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.errors import StorageError
from pipeline.redaction import redact
from pipeline.storage.faults import service_code
from pipeline.storage.file_system import (
    RangeReader,
    fetch,
    keeps_existing,
    open_file_system,
    put,
    put_if_absent,
    split_uri,
)
from pipeline.storage.keys import TEMP_PREFIX, StoredFile, check_key, is_temp
from pipeline.storage.local_files import LocalFiles
from pipeline.storage.places import check_kept, host_note
from pipeline.storage.retries import attempt

T = TypeVar("T")

RETRY_S = 60.0
"""Seconds for which one operation is retried on transient errors."""
PROBE_RETRY_S = 5.0
"""The same for `check_writable`: a mistyped endpoint should be reported soon."""
READ_BLOCK_BYTES = 1 << 20
UNKNOWN = -1
"""The size of a file whose server does not say it."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Storage:
    """Files under one URI prefix; picklable, and no request is made before the first operation.

    Attributes:
        uri: A folder path, `file://`, `s3://bucket/prefix` or another fsspec URI. Relative paths
            are made absolute at once: a worker's current folder is not the driver's.
        options: Extra arguments of the fsspec file system.
        retry_s: Seconds for which one operation is retried on transient errors.
        on_retry: Called with the verb of every operation that is retried; picklable.
        conditional: Whether of several creates one wins here, as `check_writable` found.
    """

    uri: str
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    retry_s: float = RETRY_S
    on_retry: Callable[[str], None] | None = field(default=None, repr=False)
    conditional: bool = True

    def __post_init__(self) -> None:
        protocol, path = split_uri(self.uri)
        if not path:
            raise StorageError(f"{self.uri}: names no place; write {protocol}://bucket/prefix")
        object.__setattr__(self, "uri", f"{protocol}://{path}" if protocol else path)

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay behind: each process makes its own.
        return {
            "uri": self.uri,
            "options": self.options,
            "retry_s": self.retry_s,
            "on_retry": self.on_retry,
            "conditional": self.conditional,
        }

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a file, replacing an existing one; readers see all of it or nothing.

        Raises:
            StorageError: The file cannot be written.
        """
        check_key(key)
        self._attempt("write", key, lambda path: put(self._fs, path, data))

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """Copy a local file to `key`, replacing an existing one; readers see all of it or nothing.

        Raises:
            StorageError: The file cannot be written.
            FileNotFoundError: There is no file `local_path`.
        """
        check_key(key)
        Path(local_path).stat()
        self._attempt("write", key, lambda path: self._fs.put_file(os.fspath(local_path), path))

    def create_bytes(self, key: str, data: bytes) -> bool:
        """Write a file unless `key` exists; of several writers one wins.

        Returns:
            Whether `key` is this file now. After a retry, False can also mean that an earlier try
            succeeded and its answer was lost.

        Raises:
            StorageError: The file cannot be written.
        """
        check_key(key)
        return self._attempt("write", key, lambda path: put_if_absent(self._fs, path, data))

    def read_bytes(self, key: str) -> bytes:
        """Return a whole file.

        Raises:
            StorageError: The file is missing or cannot be read, or the key leads out of the prefix.
        """
        self._check_inside(key)
        return self._attempt("read", key, lambda path: self._fs.cat_file(path))

    def read_at_most(self, key: str, limit: int) -> bytes | None:
        """Return a whole file, None if it is longer than `limit` bytes; reads no more than needed.

        Raises:
            StorageError: The file is missing or cannot be read, or the key leads out of the prefix.
        """

        def read(path: str) -> bytes | None:
            out = io.BytesIO()
            return out.getvalue() if fetch(self._fs, path, out, limit) else None

        self._check_inside(key)
        return self._attempt("read", key, read)

    def open(self, key: str) -> BinaryIO:
        """Open a file for seekable binary reading; reads of a remote file are range requests.

        A server that gives no ranges is read once, into a temporary file.

        Raises:
            StorageError: The file is missing or cannot be read, now or in a later read; or the key
                leads out of the prefix.
        """
        self._check_inside(key)
        if isinstance(self._fs, LocalFiles):
            return self._attempt("read", key, lambda path: Path(path).open("rb"))
        size: int | None = self._attempt("read", key, lambda path: self._fs.info(path)["size"])
        if size is None:  # a web server without ranges: a copy on this machine is read
            copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            self._attempt("read", key, lambda path: fetch(self._fs, path, copy))
            copy.seek(0)
            return copy
        reader = RangeReader(size, lambda start, end: self._read_range(key, start, end))
        return io.BufferedReader(reader, READ_BLOCK_BYTES)

    def list(self, prefix: str = "") -> list[StoredFile]:
        """List every file whose key starts with `prefix`, folders descended, sorted by key.

        Always asks the store. Leaves out unfinished writes; [] if there is nothing.

        Raises:
            StorageError: The place cannot be listed.
        """

        def find(top: str) -> list[StoredFile]:
            self._fs.invalidate_cache()
            found = self._fs.find(top, detail=True)
            entries = (
                StoredFile(path[len(self._root) + 1 :], int(info["size"]))
                for path, info in found.items()
                if info["type"] == "file" and path.startswith(f"{top}/") and path[-1] != "/"
            )
            return sorted(e for e in entries if e.key.startswith(prefix) and not is_temp(e.key))

        return self._attempt("list", prefix.rpartition("/")[0], find)

    def exists(self, key: str) -> bool:
        """Whether a file (not a folder) exists.

        Raises:
            StorageError: The store cannot be asked.
        """
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of a file (not a folder), `UNKNOWN` if the server does not say; None without one.

        Raises:
            StorageError: The store cannot be asked.
        """

        def look(path: str) -> int | None:
            try:
                found = self._fs.info(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                if service_code(error) == "NoSuchBucket":
                    raise
                return None
            if found["type"] != "file":
                return None
            return UNKNOWN if found["size"] is None else int(found["size"])

        return self._attempt("look at", key, look)

    def delete(self, key: str) -> None:
        """Delete a file, if it exists.

        Raises:
            StorageError: The file cannot be deleted.
        """

        def delete(path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(path)

        self._attempt("delete", key, delete)

    def check_writable(self) -> Storage:
        """Write and delete one tiny file, and try whether conditional creates hold.

        Returns:
            This storage, with `conditional` as it was found.

        Raises:
            StorageError: As `places.check_kept`; or what is wrong and how to put it right.
                Transient errors are retried for `PROBE_RETRY_S` seconds only.
        """
        check_kept(self.uri)
        quick = replace(self, retry_s=min(self.retry_s, PROBE_RETRY_S))
        probe = f"{TEMP_PREFIX}probe-{uuid.uuid4().hex}"
        quick._attempt("write to", "", lambda top: quick._fs.pipe_file(f"{top}/{probe}", b"probe"))
        holds = quick._attempt(
            "write to", "", lambda top: keeps_existing(quick._fs, f"{top}/{probe}")
        )
        quick._attempt("delete from", "", lambda top: quick._fs.rm_file(f"{top}/{probe}"))
        return replace(self, conditional=holds)

    @cached_property
    def _fs(self) -> Any:
        return open_file_system(self.uri, self.options or {})

    @cached_property
    def _root(self) -> str:
        return str(self._fs._strip_protocol(self.uri)).rstrip("/")

    def _check_inside(self, key: str) -> None:
        """Refuse a key that a hostile row made up."""
        if ".." in key.replace("\\", "/").split("/") or "\x00" in key or key.startswith("/"):
            raise StorageError(f"{self.uri}: {key[:200]!r} is no file of this prefix")

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        def read(path: str) -> bytes:
            return bytes(self._fs.cat_file(path, start=start, end=end))

        return self._attempt("read", key, read)

    def _attempt(self, verb: str, key: str, call: Callable[[str], T]) -> T:
        """Call with the full path of `key`; retry transient errors, explain the others."""

        def what() -> str:
            where = redact(f"{self.uri.rstrip('/')}/{key}" if key else self.uri)
            return f"{verb} {where}{host_note(self.uri)}"

        path = f"{self._root}/{key}" if key else self._root
        told = None if self.on_retry is None else functools.partial(self.on_retry, verb)
        return attempt(what, lambda: call(path), self.retry_s, told)


def locate(uri: str) -> tuple[Storage, str]:
    """Split the URI of one file into the storage of its folder and its key there.

    Raises:
        StorageError: The URI names a bucket or nothing at all.
    """
    protocol, path = split_uri(uri)
    folder, _, name = path.rpartition("/")
    return Storage(f"{protocol}://{folder}" if protocol else folder or "/"), name
