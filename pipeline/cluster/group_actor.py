"""The callable class that Ray Data maps: one actor owns one group and its engine."""

from __future__ import annotations

import logging
import os
import time

import pyarrow as pa
import ray

from pipeline.attempts.producer import Producer
from pipeline.cluster import nodes
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.cluster.text_stage import TEXTS_COLUMN, with_texts
from pipeline.dataset.schema import to_table
from pipeline.engine.own_thread import OwnThreadEngine
from pipeline.engine.protocol import BadNodeError, EngineDiedError, EngineFactory
from pipeline.errors import UserError
from pipeline.monitoring.prometheus import WatchedEngine, say_state
from pipeline.process import Worker
from pipeline.requests.controls import unpack
from pipeline.storage.storage import Storage

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
            engine = WatchedEngine(OwnThreadEngine(factory))
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
            node=nodes.own_name(),
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
            if isinstance(error, BadNodeError) and not nodes.retire(str(error)):
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
