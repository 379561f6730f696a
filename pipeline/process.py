"""The process that holds a group: who it is, where it runs, and what loading the model took.

Every row carries it, so that load and idle time can be added up from rows alone.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Worker:
    """One life of a group's process; a restart is another worker.

    Attributes:
        id: Unique.
        node: Host name.
        labels: Node labels as `key=value`, sorted and joined by commas; Ray's own are left out.
        began: Monotonic seconds at which the process began to load.
        load_s: Seconds of loading.
    """

    id: str
    node: str
    labels: str
    began: float
    load_s: float

    @classmethod
    def loaded(cls, began: float, labels: Mapping[str, str] | None = None) -> Worker:
        """This process, at the moment at which its model is loaded.

        Args:
            began: `time.monotonic()` from before.
            labels: Of its node.
        """
        own = sorted((labels or {}).items())
        text = ",".join(f"{key}={value}" for key, value in own if not key.startswith("ray.io/node"))
        name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return cls(name, socket.gethostname(), text, began, time.monotonic() - began)

    def struct(self) -> dict[str, Any]:
        """The row's `worker` struct as of now, the end of its engine call.

        `up_s` counts from the beginning of loading.
        """
        return {
            "id": self.id,
            "node": self.node,
            "labels": self.labels,
            "load_s": self.load_s,
            "up_s": time.monotonic() - self.began,
        }


EXIT_OVERDUE = 71


@contextmanager
def deadline(seconds: float, overdue: Callable[[], None]) -> Iterator[None]:
    """Call `overdue` from another thread if the block takes longer; it should end the process."""
    if math.isinf(seconds):
        yield
        return
    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def oom_kills() -> int:
    """Processes of this container (else of this host) that were killed so; 0 where unknown."""
    for path in _COUNTERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
