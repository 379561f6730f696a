"""Tries an operation on a store again after transient errors, and explains the permanent ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from pipeline.errors import StorageError
from pipeline.storage.faults import explain, is_transient

T = TypeVar("T")

BACKOFF_S, BACKOFF_MAX_S = 0.2, 10.0

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
            _logger.warning("cannot %s yet: %s", what(), explain(error))
            if on_retry is not None:
                on_retry()
            return True
        return False

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(should_retry),
        wait=tenacity.wait_random_exponential(multiplier=BACKOFF_S, max=BACKOFF_MAX_S),
        stop=tenacity.stop_before_delay(retry_s),
        reraise=True,
    )
    try:
        return retrying(call)
    except Exception as error:
        problem = explain(error)
        if not problem:
            raise
        tries = retrying.statistics["attempt_number"]
        again = f" (tried {tries} times)" if tries > 1 else ""
        raise StorageError(f"cannot {what()}: {problem}{again}") from error
