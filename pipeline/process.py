"""The process of a group: who it is in output rows, the deadline of its calls, and how it ends.

Loading and idle time can be added up from the `worker` struct of the rows alone.
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
from typing import Any, Never

EXIT_ENGINE_DIED = 70
"""Exit code of a process whose engine cannot be used any more (lost CUDA context, dead rank)."""

EXIT_OVERDUE = 71
"""Exit code of a process whose engine call did not return in time."""

_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


@dataclass(frozen=True, slots=True)
class Worker:
    """One life of a group's process; after a restart it is another worker.

    Attributes:
        id: Unique.
        node: Host name.
        labels: Node labels as `key=value`, sorted and joined by commas, without Ray's own.
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
        """Describe this process when it has just loaded its model.

        Args:
            began: `time.monotonic()` from before loading.
            labels: Labels of its node.
        """
        own = sorted((labels or {}).items())
        text = ",".join(f"{key}={value}" for key, value in own if not key.startswith("ray.io/node"))
        name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return cls(name, socket.gethostname(), text, began, time.monotonic() - began)

    def to_row(self) -> dict[str, Any]:
        """The `worker` struct of a row at the end of an engine call, which is now.

        `up_s` counts from the beginning of loading.
        """
        return {
            "id": self.id,
            "node": self.node,
            "labels": self.labels,
            "load_s": self.load_s,
            "up_s": time.monotonic() - self.began,
        }


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


def end_process(code: int) -> Never:
    """End this process at once; the only place that does so.

    A regular exit would run handlers that wait for dead peers (torch's process groups) or for a
    device that no longer answers. It would also only end the calling thread, or be caught by Ray.
    """
    os._exit(code)


def oom_kills() -> int:
    """Processes of this container, else of this host, that the kernel killed for lack of memory.

    0 where that is unknown.
    """
    for path in _OOM_COUNTERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
