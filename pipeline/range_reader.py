"""A remote file as a seekable binary file, read by ranges. Knows neither stores nor retries."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class RangeReader(io.RawIOBase):
    """A file of known size that is somewhere else."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        """Prepare to read.

        Args:
            size: Bytes of the file.
            read_range: Returns the bytes from a start to an end.
        """
        self._size, self._read_range, self._at = size, read_range, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; returns the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or what is left of the file; returns the bytes read."""
        end = min(self._at + len(buffer), self._size)
        data = self._read_range(self._at, end) if self._at < end else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
