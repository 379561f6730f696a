"""No rank outlives its parent, whatever kills it.

A rank that waits in a collective for a peer cannot look after itself, and the kernel's own signal
at a parent's death is bound to the thread that started the child, not to the process. So the ranks
of a group, and whatever they start, are one process group with a small leader that does nothing but
read a pipe. Only the parent holds the other end: when it dies, even by SIGKILL, the leader reads
the end of the file and kills the whole process group, itself included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

_PROGRAM = """
import os, signal, sys
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, signal.SIG_IGN)
sys.stdin.buffer.read()
os.killpg(0, signal.SIGKILL)
"""


class Reaper:
    """Leader of the process group that the ranks are put into."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def group(self) -> int:
        """The process group's id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill everything in the process group; harmless when called again."""
        if self._process.poll() is None:
            os.killpg(self.group, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
