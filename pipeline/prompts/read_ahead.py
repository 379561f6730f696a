"""Reads small files of a source before their turn: of thousands, most of the time is waiting."""

from __future__ import annotations

import dataclasses
import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from pipeline.prompts.prompt_file import SourceFile

FILES_AT_ONCE = 16
FILES_AHEAD = 2 * FILES_AT_ONCE
SMALL_BYTES = 2 << 20
"""Files up to this size are read whole; of larger ones, opening is the smaller part."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadFile(SourceFile):
    """A file that was read before its turn.

    Attributes:
        data: What is in it.
    """

    data: bytes = field(default=b"", compare=False, repr=False)

    @classmethod
    def of(cls, file: SourceFile, data: bytes) -> ReadFile:
        """The same file with its contents."""
        given = {each.name: getattr(file, each.name) for each in dataclasses.fields(file)}
        return cls(**given, data=data)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return io.BytesIO(self.data)


def read_ahead(files: Iterable[tuple[SourceFile, T]]) -> Iterator[tuple[SourceFile, T]]:
    """Yield files in their order, with the contents of small ones.

    Args:
        files: Each with something that belongs to it.

    Raises:
        StorageError: A file cannot be read. The files before it are yielded first.
    """
    waiting: deque[tuple[Future[bytes] | None, SourceFile, T]] = deque()
    pool = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="read-ahead")
    try:
        for file, own in files:
            begun = None
            if not file.is_alone and 0 < file.bytes <= SMALL_BYTES:
                begun = pool.submit(file.storage.read_bytes, file.key)
            waiting.append((begun, file, own))
            if len(waiting) == FILES_AHEAD:
                yield _read(*waiting.popleft())
        while waiting:
            yield _read(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(begun: Future[bytes] | None, file: SourceFile, own: T) -> tuple[SourceFile, T]:
    return (ReadFile.of(file, begun.result()) if begun else file), own
