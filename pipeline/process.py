"""What concerns a whole process: who it is in output rows, the deadline of its calls, how it ends.

Loading and idle time can be added up from the `worker` struct of the rows alone.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from pipeline.redaction import guard_output

EXIT_ENGINE_DIED = 70
"""Exit code of a process whose engine cannot be used any more (lost CUDA context, dead rank)."""

EXIT_OVERDUE = 71
"""Exit code of a process whose engine call did not return in time."""

LAST_ACTS_S = 120.0
"""Longest time between the decision to end a process and its end: clips are stored meanwhile."""

GRACE_S = 5.0

ALLOCATOR_ENV = "PYTORCH_ALLOC_CONF"
"""Variable with settings of torch's allocator of device memory; read when it is first used."""

ALLOCATOR = "expandable_segments:True"
"""Lets the allocator grow a segment instead of adding one: with fixed segments, a decode of 720p
held 27.2 GB of device memory for a peak of 22.3 (docs/gpu.md)."""

EXIT_CANNOT_LOAD = 72
"""Exit code of a process that could not load the model."""

_logger = logging.getLogger(__name__)
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


def set_allocator() -> None:
    """Set up torch's allocator, unless the user has; call it before torch is imported."""
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the variable's name before torch 2.9
        os.environ.setdefault(ALLOCATOR_ENV, ALLOCATOR)


def end_process(code: int) -> Never:
    """End this process at once; the only place that does so.

    A regular exit would run handlers that wait for dead peers (torch's process groups) or for a
    device that no longer answers. It would also only end the calling thread, or be caught by Ray.
    """
    os._exit(code)


def end_after(code: int, *last_acts: Callable[[], object], within_s: float = LAST_ACTS_S) -> Never:
    """End this process after some last acts, none of which can prevent its end.

    Args:
        code: Exit code.
        last_acts: Called in order; what they raise is logged.
        within_s: After so many seconds the process ends whatever they do.
    """
    timer = threading.Timer(within_s, end_process, [code])
    timer.daemon = True
    try:
        # Two guards. The second one needs no thread of Python, so it also works while a library
        # holds the interpreter's lock; its exit code is always 1.
        with contextlib.suppress(Exception):
            timer.start()
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback_later(within_s + GRACE_S, exit=True, file=2)
        for act in last_acts:
            try:
                act()
            except Exception:
                _logger.exception("on the way to the end of this process")
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()
        end_process(code)


def end_for_certain(within_s: float = LAST_ACTS_S + 60.0) -> None:
    """Have the kernel end this process if it takes too long to leave by itself.

    An actor of Ray 2.60 can hang in the last lines of its exit, when no code of Python runs any
    more: it holds its device, and Ray believes that it is gone. The time counts from the moment at
    which the interpreter begins to end.

    Args:
        within_s: Seconds from then on; more than last acts may take.
    """
    atexit.register(signal.alarm, math.ceil(within_s))  # the default action of SIGALRM is the end


def begin_actor() -> None:
    """Prepare the process of an actor of Ray: how it writes, and that it ends.

    Every actor begins with it, whatever it loads later.
    """
    guard_output()
    end_for_certain()


def briefly(act: Callable[[], object], within_s: float) -> bool:
    """Do something that is not worth much waiting, from a thread of its own.

    Args:
        act: What it raises is logged.
        within_s: Longest wait; the act goes on afterwards.

    Returns:
        Whether it came to an end in time, be it by raising.
    """
    if sys.is_finalizing():
        return _last_act(act, within_s)
    done = threading.Event()

    def run() -> None:
        try:
            act()
        except Exception:
            _logger.exception("not done")
        finally:
            done.set()

    thread = threading.Thread(target=run, name="briefly", daemon=True)
    thread.start()
    thread.join(within_s)
    return done.is_set()


def _last_act(act: Callable[[], object], within_s: float) -> bool:
    """Do something while the interpreter ends, which also ends the process if it takes too long.

    No thread can start any more then, and Python 3.11 would wait for it for ever.
    """
    with contextlib.suppress(Exception):
        faulthandler.dump_traceback_later(within_s, exit=True, file=2)
    try:
        act()
    except Exception:
        _logger.exception("not done")
    finally:
        faulthandler.cancel_dump_traceback_later()
    return True


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


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Exempt all objects so far from garbage collection, which would visit them again and again.

    Collects garbage first: a failed run leaves handles of actors, which would hold their devices
    for as long as they are frozen. What the caller has frozen stays so; then nothing more is.
    """
    gc.collect()
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
