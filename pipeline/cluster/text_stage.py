"""Text encoding as a stage of its own, so that the encoder need not fit on every group's devices.

Actors that hold only the text encoders add one column to the requests; its bytes pass through Ray's
object store to the group that makes the clip. No ledger counts their attempts: a text that kills
its encoder's process would be tried for ever, but no known text does.

`TextWatch` ends a run whose encoders find no room: their node was lost, and the groups hold all
others. Ray Data would wait for ever, with every group idle. When the user runs the same command
again, it plans fewer groups and leaves room for the encoders.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray

from pipeline.cluster import ray_compat
from pipeline.cluster.actor_load import load_here
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.engine.protocol import TextEncoder, batch_key
from pipeline.errors import UserError
from pipeline.monitoring.progress import duration
from pipeline.process import begin_actor
from pipeline.requests.controls import unpack
from pipeline.requests.sample_request import SampleRequest

TEXTS_COLUMN = "texts"
"""Encoded texts, one entry per packed unit: a control has the texts of its sample."""

LOOK_EVERY_S = 2.0

_logger = logging.getLogger(__name__)


class TextActor:
    """Text encoders behind Ray Data's callable-class interface."""

    def __init__(
        self,
        load: Callable[[], TextEncoder],
        column: str,
        batch_rows: int,
        ledger: RemoteLedger | None = None,
    ) -> None:
        """Load the encoders.

        Args:
            load: Loads them.
            column: Column of the packed requests.
            batch_rows: Most texts in one call. With the engine's batch size, encoding gives exactly
                the numbers that the engine would have computed.
            ledger: Hears of loads; None for an actor of a test.
        """
        begin_actor()
        self._encode = load_here(load, ledger, "the text encoders") if ledger else load()
        self._column, self._batch_rows = column, batch_rows

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add a column with the encoded texts of each unit."""
        firsts = [unpack(text)[0] for text in batch[self._column].to_pylist()]
        alike: dict[tuple[object, ...], list[int]] = {}
        for row, request in enumerate(firsts):
            alike.setdefault(batch_key(request), []).append(row)
        encoded = [b""] * len(firsts)
        for rows in alike.values():
            for start in range(0, len(rows), self._batch_rows):
                some = rows[start : start + self._batch_rows]
                texts = self._encoded([firsts[row] for row in some])
                for row, text in zip(some, texts, strict=True):
                    encoded[row] = text
        return batch.append_column(TEXTS_COLUMN, pa.array(encoded, pa.large_binary()))

    def _encoded(self, requests: list[SampleRequest]) -> list[bytes]:
        from pipeline.models.text_encoders import failed_text

        try:
            return self._encode(requests)
        except Exception as error:  # noqa: BLE001 - it becomes the error of the sample's row
            if len(requests) > 1:
                return [text for request in requests for text in self._encoded([request])]
            _logger.warning("a text could not be encoded: %s", error)
            return [failed_text(error)]


def with_texts(requests: Sequence[SampleRequest], texts: bytes) -> list[SampleRequest]:
    """The requests of a unit together with its encoded texts."""
    return [dataclasses.replace(request, texts=texts) for request in requests]


class TextWatch(ray_compat.ExecutionCallback):
    """Watches the encoders of one dataset; Ray Data calls it at each step of the execution."""

    def __init__(
        self,
        needs: str,
        wait_s: float,
        consumer: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to watch.

        Args:
            needs: What an encoder requests of a node, in words.
            wait_s: Longest time in which no encoder has room.
            consumer: Name of the actor class that makes the clips.
            clock: Monotonic seconds.
        """
        self._needs, self._wait_s, self._consumer, self._clock = needs, wait_s, consumer, clock
        self._looked = self._placed = clock()
        self._warned = False

    def on_execution_step(self, executor: Any) -> None:
        """Look at the encoders if it is time to.

        Raises:
            UserError: No encoder has had room for too long, and no group has work left.
        """
        now = self._clock()
        if now < self._looked + LOOK_EVERY_S:
            return
        self._looked = now
        if not all_wait(ray_compat.actors_of_this_job(), ray.nodes()):
            self._placed, self._warned = now, False
            return
        waited = now - self._placed
        if not self._warned and waited >= 2 * LOOK_EVERY_S:  # not for a restart that finds room
            self._warned = True
            _logger.warning(
                "no node has room for a text encoder (%s) beside the groups: the run waits %s for "
                "one that joins, and ends when no clip is under way any more",
                self._needs,
                duration(self._wait_s),
            )
        if waited >= self._wait_s and not ray_compat.has_active_tasks(executor, self._consumer):
            raise UserError(
                f"stages.text separate: for {duration(waited)} no node has had room for a text "
                f"encoder ({self._needs}) beside the groups; what is made is kept: add a node, or "
                "run the same command again, which plans fewer groups"
            )


def all_wait(actors: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are encoders that should run, and none of them has room.

    An encoder that loads has room already. As long as an actor has none, its address is empty or
    that of the daemon of a node that was asked for room.

    Args:
        actors: Actors of this job, as `ray_compat.actors_of_this_job` returns them.
        nodes: Nodes of the cluster, as `ray.nodes` returns them.
    """
    daemons = {(node["NodeID"], node["NodeManagerPort"]) for node in nodes}

    def has_room(actor: Mapping[str, Any]) -> bool:
        node, port = actor["Address"]["NodeID"], actor["Address"]["Port"]
        return actor["State"] == "ALIVE" or (port > 0 and (node, port) not in daemons)

    encoders = [
        actor
        for actor in actors
        if TextActor.__name__ in actor["ActorClassName"] and actor["State"] != "DEAD"
    ]
    return bool(encoders) and not any(map(has_room, encoders))
