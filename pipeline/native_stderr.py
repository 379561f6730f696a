"""What compiled libraries write to the driver's stderr, on its way to the console.

Ray's core writes to file descriptor 2, past Python and its loggers. Some of its lines look like
failures and mean nothing in a run of this pipeline. The supervisor reads what comes there, passes
it on byte for byte, and counts such lines instead of showing them; Ray's own log keeps them. What
Python writes to stderr does not come this way.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

from pipeline.wording import counted

HARMLESS = (
    (
        # Ray Data hands its plan to actors by reference, and the driver, without which there is no
        # run, keeps what it refers to.
        "a restart of an actor may fail",
        re.compile(
            rb"\[[^\]]* E (?P<pid>\d+) \d+\] core_worker\.cc:\d+: Actor with class name: .* has "
            rb"constructor arguments in the object store and max_restarts > 0\. "
        ),
    ),
)
"""What Ray says, in words, and the beginning of its line."""

_BEGINNING = b"["
_LONGEST_LINE = 1 << 16


@dataclass
class NativeStderr:
    """Passes on what is written to a pipe, without the harmless lines; a thread reads the pipe.

    Attributes:
        pipe: The end to read from.
        to: File descriptor that the rest goes to.
        left_out: How many lines were left out, by what they say and the process that said it.
    """

    pipe: int
    to: int = 2
    left_out: Counter[tuple[str, int]] = field(default_factory=Counter)
    _line: bytes = field(default=b"", init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin to pass on."""
        self._thread = threading.Thread(target=self._pass_on, name="native-stderr", daemon=True)
        self._thread.start()

    def finish(self, within_s: float = 1.0) -> None:
        """Pass on the rest, and say what was left out.

        Args:
            within_s: Longest wait: a process that was left behind can keep the pipe open.
        """
        if self._thread is not None:
            self._thread.join(within_s)
        for (what, pid), lines in sorted(self.left_out.items()):
            text = (
                f"not shown: {counted(lines, 'harmless line')} of Ray ({what}), "
                f"see its log python-core-driver-*_{pid}.log\n"
            )
            _write(self.to, text.encode())
        self.left_out.clear()

    def _pass_on(self) -> None:
        while found := os.read(self.pipe, 1 << 16):
            self._take(found)
        _write(self.to, self._line)

    def _take(self, found: bytes) -> None:
        *whole, rest = (self._line + found).split(b"\n")
        shown = b"".join(line + b"\n" for line in whole if not self._is_left_out(line))
        # The beginning of a line is held back only where Ray may have begun it.
        held = rest.startswith(_BEGINNING) and len(rest) < _LONGEST_LINE
        self._line = rest if held else b""
        _write(self.to, shown if held else shown + rest)

    def _is_left_out(self, line: bytes) -> bool:
        for what, pattern in HARMLESS:
            if match := pattern.match(line):
                self.left_out[what, int(match["pid"])] += 1
                return True
        return False


def redirect(pipe: int) -> None:
    """Have this process write to a pipe where its libraries write to stderr; Python's stays.

    Args:
        pipe: The end to write to. It is closed, and file descriptor 2 takes its place.
    """
    sys.stderr.flush()
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors)
    os.dup2(pipe, 2)
    os.close(pipe)


def _write(to: int, text: bytes) -> None:
    while text:
        text = text[os.write(to, text) :]
