"""CPU seconds of this process and its descendants, by kind of process.

Reads Linux's /proc and knows the names of Ray's processes.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DRIVER, ACTOR, LEDGER, TASKS, RAY = "driver", "actor", "ledger", "Ray Data's tasks", "Ray itself"


class ProcessTimes:
    """Samples CPU times in a thread, because a process that has ended has none any more."""

    def __init__(self, every_s: float = 0.25) -> None:
        """Start without samples; sampling begins with the `with` block."""
        self._every_s = every_s
        self._samples: list[tuple[float, dict[int, tuple[str, float]]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessTimes:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, began: float, ended: float) -> dict[str, float]:
        """Return CPU seconds by kind of process in a window of `time.time()`."""
        inside = [processes for at, processes in self._samples if began <= at <= ended]
        first: dict[int, tuple[str, float]] = {}
        last: dict[int, tuple[str, float]] = {}
        for processes in inside:
            for pid, (kind, seconds) in processes.items():
                # All time of a process that started inside the window counts.
                first.setdefault(pid, (kind, seconds if processes is inside[0] else 0.0))
                last[pid] = (kind, seconds)
        spent: Counter[str] = Counter()
        for pid, (kind, seconds) in last.items():
            spent[kind] += seconds - first[pid][1]  # type: ignore[assignment]
        return dict(spent)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._samples.append((time.time(), _family()))


def _family() -> dict[int, tuple[str, float]]:
    """Return kind and CPU seconds of this process and its descendants, by process id."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                # The name is in brackets and can contain anything.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            parents[int(folder.name)] = int(fields[1])
            seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    own = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= grown
    return {pid: (_kind(pid), seconds[pid]) for pid in own if pid in seconds}


def _kind(pid: int) -> str:
    if pid == os.getpid():
        return DRIVER
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return RAY
    if title.startswith("ray::"):
        named = {"MapWorker(": ACTOR, "Ledger": LEDGER}
        return next((kind for name, kind in named.items() if name in title), TASKS)
    return ACTOR if "pipeline.ranks" in title else RAY
