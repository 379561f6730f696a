"""The process above a driver: it says what ended the driver where the driver cannot.

Ray ends a driver whose raylet or GCS is gone at once, with exit code 1 and no message, and its
other processes go on for up to a minute. So the job's own process is a small one that waits for the
driver, passes signals on, and keeps harmless alarms of Ray from the console. Afterwards it ends the
run in its manifest, ends whatever the driver has left, and says what happened. On Linux only;
elsewhere the driver runs alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline import interrupt
from pipeline.native_stderr import NativeStderr, redirect

EXIT_CLUSTER_LOST = 3
"""Exit code of a job whose Ray cluster went away."""

GRACE_S = 3.0
"""What the driver has left may live so long; then it is killed."""

KILLED_S = 3.0
"""What was killed may take so long until it is gone."""

_PDEATHSIG, _SUBREAPER = 1, 36  # from linux/prctl.h
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_END = b"end\n"

LOST = (
    "Ray ended the driver: the Ray cluster, or the part of it on this node (raylet, GCS, "
    "runtime-env agent), is gone"
)

_to_supervisor: int | None = None


def supervised(main: Callable[[], int]) -> int:
    """Run a job in a process below this one, and return its exit code."""
    if sys.platform != "linux":
        return main()
    theirs, ours = os.pipe()
    native, to_native = os.pipe()
    _prctl(_SUBREAPER, 1)  # what the driver leaves comes to this process
    # A signal that comes before the handlers are set waits for them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    parent, child = os.getpid(), os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(theirs)
        os.close(native)
        _prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        redirect(to_native)
        return _driver(main, ours)
    os.close(ours)
    os.close(to_native)
    stderr = NativeStderr(native)
    stderr.start()
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: _pass_on(child, number))
    with _woken_by_signals() as wake:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = _wait(child, wake)
    _end_what_is_left()
    stderr.finish()
    said = _read_all(theirs)
    code = os.waitstatus_to_exitcode(status)
    if said.endswith(_END):
        return code if code >= 0 else 128 - code
    why = f"the driver was killed by {signal.Signals(-code).name}" if code < 0 else LOST
    _end_in_manifest(said, why)
    sys.stderr.write(f"error: {why}; what is made is kept, and the same command goes on\n")
    return 128 - code if code < 0 else EXIT_CLUSTER_LOST


def announce(output: str, run_id: str) -> None:
    """Tell the supervisor, if there is one, of a run whose manifest says `running` now."""
    _tell(json.dumps([output, run_id]).encode() + b"\n")


def _driver(main: Callable[[], int], pipe: int) -> int:
    global _to_supervisor
    _to_supervisor = pipe
    interrupt.expect_signals_twice()
    try:
        return main()
    finally:
        _tell(_END)  # by itself, be it with a traceback


def _tell(line: bytes) -> None:
    if _to_supervisor is not None:
        with contextlib.suppress(OSError):
            os.write(_to_supervisor, line)


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[int]:
    """A pipe's end to read from that gets a byte for every signal, also for the end of a child.

    A signal that comes just before a blocking call does not interrupt it, and its handler would
    wait for the call's end; the byte is there whenever the signal came.
    """
    wake, to_wake = os.pipe()
    os.set_blocking(to_wake, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(to_wake, warn_on_full_buffer=False)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(to_wake)
        os.close(wake)


def _wait(child: int, wake: int) -> int:
    """Wait for a child, and reap what else ends meanwhile."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return status
        if not pid:
            select.select([wake], [], [])
            os.read(wake, 1 << 12)


def _read_all(pipe: int) -> bytes:
    """What is in a pipe now; a process that was left may still hold its other end."""
    os.set_blocking(pipe, False)
    said = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(pipe, 1 << 16):
            said += more
    return said


def _end_what_is_left() -> None:
    until = time.monotonic() + GRACE_S
    while list(_reaped_and_left()) and time.monotonic() < until:
        time.sleep(0.05)
    until = time.monotonic() + KILLED_S
    while left := list(_reaped_and_left()):
        for pid in left:  # once at least, however late a busy machine comes here
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    _reap()  # those that ended between the last two looks


def _reaped_and_left() -> Iterator[int]:
    """Reap children that have ended, and name the descendants that have not."""
    _reap()
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        yield from more
        below |= more


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_in_manifest(said: bytes, why: str) -> None:
    """End the latest run that was announced, unless it has ended itself."""
    lines = said.splitlines()
    if not lines:
        return
    from pipeline.dataset.manifest import end_for
    from pipeline.errors import UserError
    from pipeline.storage.storage import Storage

    output, run_id = json.loads(lines[-1])
    try:
        end_for(Storage(output), run_id, why)
    except UserError as error:
        sys.stderr.write(f"error: the manifest cannot be ended: {error}\n")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
