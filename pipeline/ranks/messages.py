"""What parent and ranks say to each other, over a socket that only the two of them hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Ask:
    """To every rank: answer this.

    Attributes:
        number: Counts up.
        payload: The request.
    """

    number: int
    payload: Any


@dataclass(frozen=True)
class Ready:
    """From a rank, once: it takes requests."""


@dataclass(frozen=True)
class ProgressMark:
    """From a rank: it has come this far.

    Attributes:
        name: Of the place, such as "step"; the same name may come again and again.
    """

    name: str


@dataclass(frozen=True)
class Answer:
    """From a rank: done.

    Attributes:
        number: Of the request.
        result: Of rank 0; None from the others.
    """

    number: int
    result: Any


@dataclass(frozen=True)
class Raised:
    """From a rank: it could not.

    Attributes:
        kind: Class name of the exception.
        message: Its text.
        text: Its traceback.
        ready: Whether the rank had come as far as taking requests.
    """

    kind: str
    message: str
    text: str
    ready: bool


@dataclass(frozen=True)
class RankContext:
    """What a rank's own code is told.

    Attributes:
        rank: 0 to size - 1.
        size: Ranks of the group.
    """

    rank: int
    size: int
    _connection: Connection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mark(self, name: str) -> None:
        """Tell the parent of progress; call it at every denoising step, and at what takes long."""
        self.send(ProgressMark(name))

    def send(self, message: object) -> None:
        """Send one message whole, from whatever thread."""
        if self._connection is not None:
            with self._lock:
                self._connection.send(message)


Worker = Callable[[Any], Any]
"""Answers requests, in every rank at once."""

MakeWorker = Callable[[RankContext], Worker]
"""Loads a rank's model. Picklable by name; called once in every rank."""
