"""Loads what an actor needs, and decides with the ledger what follows where that fails.

The rules are those of `pipeline.attempts.loads`. Ray does not restart an actor that raises while it
is made, and Ray Data then ends the run; the end of the process makes Ray start it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Never, TypeVar

import ray

from pipeline.attempts.loads import AfterLoad
from pipeline.cluster import nodes
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.errors import UserError, message_of
from pipeline.process import EXIT_CANNOT_LOAD, briefly, end_after

RAY_S = 30.0
"""Longest wait for Ray by a process that is about to end."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def load_here(load: Callable[[], _T], ledger: RemoteLedger, what: str) -> _T:
    """Load something in this actor, and return it.

    Args:
        load: Loads it.
        ledger: Hears of each load.
        what: What is loaded, in words.

    Raises:
        UserError: No node can load it; the run must stop.
    """
    node, actor = nodes.own_name(), ray.get_runtime_context().get_actor_id() or ""
    others = nodes.others(nodes.own_gpus())
    # An earlier process of this actor can have died in the middle, as where memory is short.
    then = ledger.load_begins(what, actor, node, others)
    if then is not AfterLoad.AGAIN:
        _leave(ledger, then, 0.0, f"a process dies while it loads {what} on node {node}", None)
    try:
        loaded = load()
    except Exception as error:  # noqa: BLE001 - told to the ledger, which decides
        reason = str(error)
        if not isinstance(error, UserError):
            kind = type(error).__name__
            reason = f"cannot load {what} on node {node}: {kind}: {message_of(error)}"
        then, pause_s = ledger.cannot_load(what, actor, reason, others)
        _leave(ledger, then, pause_s, reason, error)
    ledger.loaded(what, actor)
    return loaded


def _leave(
    ledger: RemoteLedger,
    then: AfterLoad,
    pause_s: float,
    reason: str,
    error: Exception | None,
) -> Never:
    """End this process so that Ray loads again, or the run where no node can load."""
    if then is AfterLoad.STOP or (then is AfterLoad.ELSEWHERE and not retire_briefly(reason)):
        ledger.complain(reason)
        raise UserError(reason) from error
    end_after(
        EXIT_CANNOT_LOAD,
        lambda: _logger.error("trying %s: %s", then.value, reason, exc_info=error),
        lambda: time.sleep(pause_s),
    )


def retire_briefly(reason: str) -> bool:
    """See `nodes.retire`; true as well where Ray gives no answer, which must keep nothing alive."""
    answers: list[bool] = []
    briefly(lambda: answers.append(nodes.retire(reason)), RAY_S)
    return answers[0] if answers else True
