"""SIGINT and SIGTERM stop a run so that its finished samples are kept."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPED = (KeyboardInterrupt, SystemExit)
"""What a signal raises: `KeyboardInterrupt`, or `SystemExit` by Ray's handler during `ray.init`."""


TWICE_S = 2.0
"""A signal within so many seconds of another one is the same one."""

_twice = False
_stopped_at = -math.inf
_number = 0
_stops = 0
_first: list[Callable[[], None]] = []


def expect_signals_twice() -> None:
    """Take two signals in short succession for one.

    What a terminal or `kill` sends to a process group also comes by way of the driver's supervisor.
    """
    global _twice
    _twice = True


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM (a stopped job, a spot notice) raise `KeyboardInterrupt`, as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        global _number, _stopped_at, _stops
        before, _stopped_at = _stopped_at, time.monotonic()
        _number = number
        if _twice and _stopped_at - before < TWICE_S:
            return
        _stops += 1
        for act in tuple(_first):
            act()
        raise KeyboardInterrupt

    with _handled({signal.SIGTERM: stop, signal.SIGINT: stop}), kept_as_stop():
        yield


@contextmanager
def kept_as_stop() -> Iterator[None]:
    """Let a signal end the block as a stop, also where a library makes its own error of it.

    DuckDB raises `RuntimeError: Query interrupted` whatever the handler of a signal raises while it
    computes. Needed around blocks of which all errors are caught; `interruptible` contains it.

    Raises:
        KeyboardInterrupt: In place of such an error.
    """
    before = _stops
    try:
        yield
    except Exception as error:
        if _stops == before or "interrupted" not in str(error).lower():
            raise
        raise KeyboardInterrupt from error


def was_stopped() -> bool:
    """Whether a signal has come that stops this process's run."""
    return _number != 0


def was_by_hand() -> bool:
    """Whether the latest signal was SIGINT, by which people stop runs; schedulers send SIGTERM."""
    return _number == signal.SIGINT


@contextmanager
def stopping_first(act: Callable[[], None]) -> Iterator[None]:
    """Do something as soon as a signal comes within the block, before anything is stopped.

    The block may only wait: the act begins in the middle of it, so it must not hold a lock that the
    act needs.
    """
    _first.append(act)
    try:
        yield
    finally:
        _first.remove(act)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore both signals for the seconds in which finished rows are written."""
    with _handled({signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}):
        yield


@contextmanager
def _handled(handlers: dict[signal.Signals, signal._HANDLER]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread, and only it may set handlers
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
