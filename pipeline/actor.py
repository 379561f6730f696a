"""The callable class that Ray Data maps: one actor owns one group and its engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from pipeline.engine import EngineFactory
from pipeline.ledger import Claim, Ledger
from pipeline.produce import EngineDiedError, Producer
from pipeline.request import SampleRequest
from pipeline.schema import to_table
from pipeline.storage import Storage

logger = logging.getLogger(__name__)

REQUEST_COLUMN = "request"
"""The one column of the dataset that actors read: a `SampleRequest` as JSON.

One string column keeps every block's schema equal, whatever rows left out.
"""

EXIT_ENGINE_DIED = 70


class RemoteLedger:
    """A ledger that lives in a Ray actor, with the interface of the ledger itself."""

    def __init__(self, handle: Any) -> None:
        """Wrap the handle of a Ray actor of class `Ledger`."""
        self._handle = handle

    @classmethod
    def start(cls, storage: Storage, run_id: str, *, forget: bool) -> RemoteLedger:
        """Start the ledger on the driver's own node, where spot kills do not reach it.

        It restarts by itself and reads back what it had written.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )(Ledger)
        return cls(actor.remote(storage, run_id, forget=forget))

    def claim(self, sample_ids: Sequence[str], where: str) -> Claim:
        """Record attempts; returns only when they are recorded."""
        return ray.get(self._handle.claim.remote(list(sample_ids), where))

    def note(self, sample_ids: Sequence[str], reason: str) -> None:
        """Record a reason; returns only when it is recorded, since the caller may die next."""
        ray.get(self._handle.note.remote(list(sample_ids), reason))

    def finish(self, sample_ids: Sequence[str]) -> None:
        """Drop finished samples; not waited for (calls of one worker arrive in order)."""
        self._handle.finish.remote(list(sample_ids))


class GroupActor:
    """One group of ranks behind Ray Data's callable-class interface."""

    def __init__(
        self,
        factory: EngineFactory,
        storage: Storage,
        ledger: RemoteLedger,
        run_id: str,
        batch_rows: int,
        max_attempts: int,
    ) -> None:
        """Load the model; called once per actor and again after each restart."""
        self._producer = Producer(
            factory(), storage, ledger, run_id, batch_rows=batch_rows, max_attempts=max_attempts
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map a block of requests to a table of output rows, one each, in order."""
        requests = [SampleRequest.from_json(text) for text in batch[REQUEST_COLUMN].to_pylist()]
        try:
            return to_table(self._producer.produce(requests))
        except EngineDiedError as error:
            # An actor that raises is not restarted, and this one's device context is lost; only
            # the end of the process makes Ray start a fresh one and run the task again there.
            logger.exception("engine died, restarting its process: %s", error)
            os._exit(EXIT_ENGINE_DIED)
