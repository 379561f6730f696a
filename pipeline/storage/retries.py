"""Tries an operation on a store again after transient errors, and explains the permanent ones."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

from pipeline.errors import StorageError
from pipeline.said_once import warn_once
from pipeline.storage.faults import explain, is_transient

T = TypeVar("T")

BACKOFF_S, BACKOFF_MAX_S = 0.2, 10.0

SAY_AGAIN_S = 60.0
"""A process says the same problem of a store only so often."""

_PLACE = re.compile(r"\S+/\S+")
"""Paths and URLs in a problem: they differ from file to file."""

_logger = logging.getLogger(__name__)


def attempt(
    what: Callable[[], str],
    call: Callable[[], T],
    retry_s: float,
    on_retry: Callable[[], None] | None = None,
) -> T:
    """Call; retry transient errors.

    Args:
        what: Says what is tried, for messages: `read s3://bucket/key`.
        call: The operation.
        retry_s: Seconds for which it is tried again.
        on_retry: Called before it is tried again.

    Raises:
        StorageError: An error that is none of a storage is raised as it is.
    """

    def should_retry(error: BaseException) -> bool:
        if is_transient(error):
            problem = explain(error)
            text = f"cannot {what()} yet, trying again for up to {retry_s:g} s: {problem}"
            # Each try, and each file that waits for the same store, meets the same problem.
            warn_once(_logger, text, _PLACE.sub("", problem), SAY_AGAIN_S)
            if on_retry is not None:
                on_retry()
            return True
        return False

    began = time.monotonic()
    try:
        return call()  # a sixth of the time of a small write would be the machinery below
    except Exception as error:  # noqa: BLE001 - it is raised again as the outcome of the first try
        first: list[Exception] = [error]

    def call_again() -> T:
        if first:
            raise first.pop()
        return call()

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(should_retry),
        wait=tenacity.wait_random_exponential(multiplier=BACKOFF_S, max=BACKOFF_MAX_S),
        stop=tenacity.stop_before_delay(retry_s - (time.monotonic() - began)),
        reraise=True,
    )
    try:
        return retrying(call_again)
    except Exception as error:
        problem = explain(error)
        if not problem:
            raise
        tries = retrying.statistics["attempt_number"]
        again = f" (tried {tries} times)" if tries > 1 else ""
        raise StorageError(f"cannot {what()}: {problem}{again}") from error
