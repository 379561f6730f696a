"""Hands packed requests to the cluster while the input is still being read.

A thread of the driver reads the input and packs its requests. It waits as soon as a few tables wait
to be taken, so the driver's memory does not grow with the input.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

TABLES_AHEAD = 4
"""Packed tables that wait in the driver."""
LOOK_S = 0.2
"""How soon the thread notices that nobody takes tables any more."""
SWITCH_S = 0.0005
"""How long the thread may keep the interpreter while others of the driver wait for it. Ray's own
threads there ask for it after every answer: with Python's 5 ms, the first clip of a resume of ten
million prompts came after 67 and 87 s, with this after 45, 53 and 62 s (2 busy cores)."""


_numbers = itertools.count()
_here: weakref.WeakValueDictionary[int, RequestFeed] = weakref.WeakValueDictionary()


class RequestFeed:
    """The tables of an iterator, read by a thread of its own.

    Ray Data copies and pickles whatever its context holds. A copy in this process is the feed
    itself; other processes get None, and make no use of it.

    Attributes:
        error: What ended the iterator early; the tables before it are still handed out.
    """

    def __init__(self, tables: Iterator[pa.Table | None]) -> None:
        """Prepare; `start` begins to read.

        Args:
            tables: None stands for no table yet: the thread looks whether it is to go on.
        """
        self.error: Exception | None = None
        self._number = next(_numbers)
        _here[self._number] = self
        self._tables = tables
        self._queue: queue.Queue[pa.Table] = queue.Queue(TABLES_AHEAD)
        self._read, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-input", daemon=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _feed_here, (self._number,)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def next(self, wait_s: float = 0.0) -> pa.Table | None:
        """The next table; None where none is there yet, or none will come.

        Args:
            wait_s: Longest wait for one.
        """
        try:
            return self._queue.get(block=wait_s > 0, timeout=wait_s or None)
        except queue.Empty:
            return None

    @property
    def is_read(self) -> bool:
        """Whether the iterator has ended."""
        return self._read.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the iterator has ended and all of its tables are taken."""
        return self.is_read and self._queue.empty()

    def close(self) -> None:
        """Stop reading. The thread ends with the rows that it reads, and nobody waits for that."""
        self._stop.set()

    def _run(self) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            for table in self._tables:
                while table is not None and not self._stop.is_set():
                    try:
                        self._queue.put(table, timeout=LOOK_S)
                        break
                    except queue.Full:
                        continue
                if self._stop.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - raised by the driver once the rest is made
            self.error = error
        finally:
            sys.setswitchinterval(before)
            self._read.set()


def _feed_here(number: int) -> RequestFeed | None:
    return _here.get(number)
