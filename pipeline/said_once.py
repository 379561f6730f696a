"""What a process says once, however often it happens, so that it does not bury everything else."""

from __future__ import annotations

import logging
import math
import threading
import time

_last: dict[str, float] = {}
_unsaid: dict[str, int] = {}
_lock = threading.Lock()


def warn_once(logger: logging.Logger, text: str, kind: str = "", again_s: float = math.inf) -> None:
    """Warn unless this process has warned of the same before.

    Args:
        logger: Gets the warning.
        text: The warning.
        kind: What makes two warnings the same; "" for their texts.
        again_s: After so many seconds it warns once more, and says how often it did not.
    """
    kind = kind or text
    with _lock:
        now = time.monotonic()
        if now - _last.get(kind, -math.inf) < again_s:
            _unsaid[kind] = _unsaid.get(kind, 0) + 1
            return
        _last[kind], unsaid = now, _unsaid.pop(kind, 0)
    more = f" (and {unsaid} times more since this was last said)" if unsaid else ""
    logger.warning("%s%s", text, more)


def forget() -> None:
    """Forget what was said, for tests: they share a process."""
    with _lock:
        _last.clear()
        _unsaid.clear()
