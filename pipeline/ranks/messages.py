"""What a group's owner and its ranks send each other, over a socket that only those two hold.

The owner sends the setup once, then the payload of each request; a rank sends the messages below.
They are not defined in the program of a rank, where pickle would call their module `__main__`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from pipeline.ranks.shared_memory import send_shared


@dataclass(frozen=True)
class Ready:
    """A rank has loaded its model and takes requests; sent once."""


@dataclass(frozen=True)
class ProgressMark:
    """A rank has come this far with a request.

    Attributes:
        name: Of the place, such as "step"; the same name may come many times.
    """

    name: str


@dataclass(frozen=True)
class Answer:
    """A rank has finished a request.

    Attributes:
        result: Of rank 0; None from the others.
    """

    result: Any


@dataclass(frozen=True)
class Raised:
    """A rank could not load, or could not answer.

    Attributes:
        kind: Class name of the exception.
        message: Its text.
        text: Its traceback.
        ready: Whether the rank had loaded.
    """

    kind: str
    message: str
    text: str
    ready: bool


@dataclass(frozen=True)
class RankContext:
    """What the code inside a rank knows of its group.

    Attributes:
        rank: 0 to size - 1.
        size: Ranks of the group.
    """

    rank: int
    size: int
    _connection: Connection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mark(self, name: str) -> None:
        """Report progress; call it at every denoising step, and round whatever takes long."""
        self.send(ProgressMark(name))

    def send(self, message: object) -> None:
        """Send one message; any thread may call it."""
        if self._connection is not None:
            with self._lock:
                send_shared(self._connection, message)


Handler = Callable[[Any], Any]
"""Answers requests; called with each payload, in every rank at once."""

MakeHandler = Callable[[RankContext], Handler]
"""Loads a rank's model. Picklable by name; called once in every rank."""
