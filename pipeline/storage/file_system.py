"""The fsspec file system behind a URI, and a reader that fetches a remote file by ranges.

The retries of botocore and s3fs are turned off: nested retry loops would multiply their waiting
times, and `pipeline.storage.storage` retries already. Endpoint, region and credentials come from
the standard environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...) or a role.
"""

from __future__ import annotations

import io
import logging
import mimetypes
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from pipeline.errors import StorageError
from pipeline.redaction import redact
from pipeline.said_once import warn_once
from pipeline.storage.faults import already_exists, lacks_conditions, one_line
from pipeline.storage.local_files import LocalFiles

_logger = logging.getLogger(__name__)

_S3_OPTIONS: Mapping[str, Any] = {
    "max_concurrency": 1,  # more than 1 costs an extra HEAD request per read
    "config_kwargs": {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 10,
        "read_timeout": 60,
        "max_pool_connections": 64,
    },
}


_COPY_BYTES = 1 << 20

_NO_SLASHES = re.compile(r"(?P<name>[A-Za-z][\w.+-]+):(?!//)(?P<slash>/?)(?P<rest>(?!:).*)", re.S)
_PROTOCOLS = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "file", "local", "hf", "http", "https"}
)
"""What stands for a protocol also without any slash behind it; a local name may hold a colon."""


def open_file_system(uri: str, options: Mapping[str, Any]) -> Any:
    """Open the fsspec file system of a URI; this sends no request.

    Args:
        uri: As `split_uri` takes it.
        options: Extra arguments of the file system; they override our own.

    Raises:
        StorageError: fsspec does not know the protocol, or its library is not installed.
    """
    protocol, _ = split_uri(uri)
    s3 = protocol in ("s3", "s3a")
    arguments = {**(_S3_OPTIONS if s3 else {}), "use_listings_cache": False, **options}
    if not protocol:
        return LocalFiles(**arguments)
    try:
        if protocol in ("http", "https"):
            from pipeline.storage.http_files import HttpFiles  # loads aiohttp

            return HttpFiles(**arguments)
        fs = fsspec.filesystem(protocol, **arguments)
    except (ValueError, ImportError) as error:
        raise StorageError(f"{redact(uri)}: {one_line(error)}") from error
    if s3:
        fs.retries = 1
    return fs


def split_uri(uri: str) -> tuple[str, str]:
    """Split a URI into protocol ("" for local folders) and path without trailing slash.

    Raises:
        StorageError: It has lost slashes behind its protocol.
    """
    if problem := lost_slashes(uri):
        raise StorageError(problem)
    protocol, path = fsspec.core.split_protocol(uri)
    if protocol in (None, "file", "local"):
        return "", str(Path(path).expanduser().absolute())
    return protocol, path.rstrip("/")


def lost_slashes(uri: str) -> str:
    """Say what is wrong with a URI that lacks slashes behind its protocol; "" if nothing is.

    `s3:/bucket/clips` would be a local folder of that name. Drive letters of Windows are no
    protocols.
    """
    found = _NO_SLASHES.fullmatch(uri)
    if not found or not (found["slash"] or found["name"].lower() in _PROTOCOLS):
        return ""
    name, rest = found["name"], found["rest"]
    local = name.lower() in ("file", "local")
    right = found["slash"] + rest or "a path" if local else f"{name}://{rest}"
    return redact(
        f"{uri}: lacks slashes behind {name}: write {right}, or ./{uri} for a local path of that "
        "name"
    )


def keeps_existing(fs: Any, path: str) -> bool:
    """Whether a conditional create of a file that exists is refused, as it should be.

    Some stores ignore the condition and replace the file (rclone, s3rver), others answer that they
    do not know it.
    """
    try:
        fs.pipe_file(path, b"probe", mode="create")
    except Exception as error:
        if already_exists(error):
            return True
        if not lacks_conditions(error):
            raise
    return False


def put(fs: Any, path: str, data: bytes, **condition: str) -> None:
    """Write a file; on S3 with the media type of its name, as browsers need it to show a page."""
    kind = mimetypes.guess_type(path)[0] if "s3" in fs.protocol else None
    fs.pipe_file(path, data, **condition, **({"ContentType": kind} if kind else {}))


def put_if_absent(fs: Any, path: str, data: bytes) -> bool:
    """Write a file unless `path` exists; whether it is there now.

    Where the file system has no conditions it is asked first, which leaves a gap.
    """
    try:
        put(fs, path, data, mode="create")
    except Exception as error:
        if already_exists(error):
            return False
        if not lacks_conditions(error):
            raise
        text = f"{redact(path)} has no conditional put: asked before writing"
        warn_once(_logger, f"{text}, as for every file there", kind="no conditional put")
        if fs.exists(path):
            return False
        put(fs, path, data)
    return True


def fetch(fs: Any, path: str, out: BinaryIO, limit: int | None = None) -> bool:
    """Write a whole file to `out` from its beginning; stop after more than `limit` bytes.

    Returns:
        Whether it is no longer than `limit`.
    """
    most = sys.maxsize if limit is None else limit
    if hasattr(fs, "fetch"):
        return bool(fs.fetch(path, out, limit))
    out.seek(0)
    out.truncate()
    if not isinstance(fs, LocalFiles):
        fits = int(fs.info(path)["size"] or 0) <= most
        out.write(fs.cat_file(path) if fits else b"")
        return fits
    with Path(path).open("rb") as file:
        while out.tell() <= most and (chunk := file.read(_COPY_BYTES)):
            out.write(chunk)
    return out.tell() <= most


class RangeReader(io.RawIOBase):
    """A remote file of known size as a raw, seekable binary file."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        """Open at the first byte.

        Args:
            size: Bytes of the file.
            read_range: Returns the bytes from a start (inclusive) to an end (exclusive).
        """
        self._size, self._read_range, self._at = size, read_range, 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer up to the end of the file; return the number of bytes."""
        end = min(self._at + len(buffer), self._size)
        data = self._read_range(self._at, end) if self._at < end else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
