"""An end for calls that do not come back: nothing in this process can stop them, so it must end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
