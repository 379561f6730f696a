"""The callable class that Ray Data maps: one actor owns one group and its engine."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from pipeline.cluster import retire_node
from pipeline.controls import unpack
from pipeline.engine import BadNodeError, EngineDiedError, EngineFactory
from pipeline.errors import UserError
from pipeline.ledger import Claim, Ledger
from pipeline.produce import Producer
from pipeline.schema import to_table
from pipeline.storage import Storage
from pipeline.telemetry import WatchedEngine, say_state
from pipeline.text_stage import TEXTS_COLUMN, with_texts
from pipeline.worker import Worker

logger = logging.getLogger(__name__)

REQUEST_COLUMN = "request"
"""The one column of the dataset that actors read: a request, or one and its control (`pack`).

One string column keeps every block's schema equal, whatever rows left out.
"""

CALLS_AT_ONCE = 2
"""Tasks inside one actor: one samples while the clips of the other are encoded and stored.

Also the most clips that wait in an actor's memory (times `batch_rows`), and the most tasks that are
tied to an actor: work that waits there could not go to an idle one.
"""

EXIT_ENGINE_DIED = 70


class LedgerActor(Ledger):
    """A ledger that can be told several things in one call."""

    def after(self, events: Sequence[tuple[str, list[str]]], method: str, *args: Any) -> Any:
        """Take in events that need no answer, in order, then answer a call."""
        for name, sample_ids in events:
            getattr(self, name)(sample_ids)
        return getattr(self, method)(*args)


class RemoteLedger:
    """A ledger that lives in a Ray actor, with the interface of the ledger itself.

    What needs no answer travels with the next call that does, in order: one message per engine
    call. What is never sent for lack of another call concerns samples that are done.
    """

    def __init__(self, handle: Any) -> None:
        """Wrap the handle of a Ray actor of class `LedgerActor`."""
        self._handle = handle
        self._events: list[tuple[str, list[str]]] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteLedger, (self._handle,)

    @classmethod
    def start(
        cls, storage: Storage, run_id: str, *, max_attempts: int, forget: bool
    ) -> RemoteLedger:
        """Start the ledger on the driver's own node, where spot kills do not reach it.

        It restarts by itself and reads back what it had written.

        Raises:
            StorageError: The attempts of earlier runs cannot be read.
        """
        Ledger(storage, run_id, max_attempts=max_attempts, forget=forget)  # say it here, at once
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )(LedgerActor)
        return cls(actor.remote(storage, run_id, max_attempts=max_attempts, forget=forget))

    def claim(self, sample_ids: Sequence[str], where: str, oom_kills: int = 0) -> Claim:
        """Record attempts; returns only when they are recorded."""
        claim: Claim = self._ask("claim", list(sample_ids), where, oom_kills)
        return claim

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """Record an error; returns only when it is recorded, since the caller may die next."""
        self._ask("note", list(sample_ids), kind, reason, lost_s)

    def made(self, sample_ids: Sequence[str]) -> None:
        """Say that an engine call returned; known before the next one begins."""
        self._later("made", sample_ids)

    def release(self, sample_ids: Sequence[str]) -> None:
        """Take an attempt back."""
        self._later("release", sample_ids)

    def complain(self, text: str) -> None:
        """Leave a text for the driver; returns when it is there."""
        ray.get(self._handle.complain.remote(text))

    def complaint(self) -> str:
        """What a worker left, "" if nothing."""
        return ray.get(self._handle.complaint.remote())

    def bad_nodes(self) -> dict[str, list[str]]:
        """See `Ledger.bad_nodes`."""
        return ray.get(self._handle.bad_nodes.remote())

    def finish(self, sample_ids: Sequence[str], statuses: Sequence[str] = ()) -> None:
        """Drop samples whose rows have arrived; not waited for."""
        self._handle.finish.remote(list(sample_ids), list(statuses))

    def _later(self, method: str, sample_ids: Sequence[str]) -> None:
        with self._lock:
            self._events.append((method, list(sample_ids)))

    def _ask(self, method: str, *args: Any) -> Any:
        with self._lock:  # sent in the order in which they were taken
            answer = self._handle.after.remote(self._events, method, *args)
            self._events = []
        return ray.get(answer)


class GroupActor:
    """One group of ranks behind Ray Data's callable-class interface; called by several threads."""

    def __init__(
        self,
        factory: EngineFactory,
        storage: Storage,
        ledger: RemoteLedger,
        run_id: str,
        batch_rows: int,
        deadline_s: float,
    ) -> None:
        """Load the model; called once per actor and again after each restart."""
        self._ledger = ledger
        say_state("loading")
        began = time.monotonic()
        try:
            engine = WatchedEngine(factory())
        except UserError as error:
            ledger.complain(str(error))
            raise
        worker = Worker.loaded(began, ray.get_runtime_context().get_node_labels())
        self._producer = Producer(
            engine,
            storage,
            ledger,
            run_id,
            batch_rows=batch_rows,
            worker=worker,
            node=f"{worker.node}:{ray.get_runtime_context().get_node_id()[:8]}",
            deadline_s=deadline_s,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map a block of packed requests to a table of output rows, one per request, in order."""
        units = [unpack(text) for text in batch[REQUEST_COLUMN].to_pylist()]
        if TEXTS_COLUMN in batch.column_names:
            encoded = batch[TEXTS_COLUMN].to_pylist()
            units = [with_texts(unit, texts) for unit, texts in zip(units, encoded, strict=True)]
        requests = [request for unit in units for request in unit]
        try:
            return to_table(self._producer.produce(requests))
        except UserError as error:
            self._ledger.complain(str(error))
            raise
        except EngineDiedError as error:
            # So that Ray starts the next process elsewhere.
            if isinstance(error, BadNodeError) and not retire_node(str(error)):
                text = (
                    f"{error}, and the cluster has no other: look into that node, add one, and "
                    "run the same command again"
                )
                self._ledger.complain(text)
                raise UserError(text) from error
            # An actor that raises is not restarted, and this one's device context is lost; only
            # the end of the process makes Ray start a fresh one and run the task again there.
            logger.exception("engine died, restarting its process: %s", error)
            self._producer.close()  # what the other call has made is stored, and taken over later
            os._exit(EXIT_ENGINE_DIED)

    def __del__(self) -> None:
        """Ray Data drops its actors when they have nothing left to do."""
        if hasattr(self, "_producer"):  # not if the model could not be loaded
            self._producer.close()
