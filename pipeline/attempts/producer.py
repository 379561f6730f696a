"""Requests to finished rows with their clips stored: the work of one group, without Ray.

Which samples share an engine call, and what is tried again when one fails: first the samples of a
failed call one by one, then the guilty one until its attempts are used up. A single attempt is
`pipeline.attempts.attempt`'s.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait

from pipeline.attempts.attempt import AttemptLedger, Attempts
from pipeline.dataset.clip_store import ClipStore, Row
from pipeline.engine.protocol import Engine, EngineDiedError, batch_key
from pipeline.errors import UserError, message_of
from pipeline.process import Worker
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs
from pipeline.storage.storage import Storage


class Producer:
    """Runs an engine on batches of requests and stores what comes out."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        ledger: AttemptLedger,
        run_id: str,
        *,
        batch_rows: int,
        worker: Worker | None = None,
        node: str = "",
        deadline_s: float = math.inf,
    ) -> None:
        """Bind an engine to an output prefix.

        Args:
            engine: The loaded model.
            storage: The output prefix.
            ledger: Where attempts are recorded before they begin.
            run_id: Goes into every row.
            batch_rows: Most samples in one engine call.
            worker: This process, for the rows; one that has just been loaded if left out.
            node: Where this is, for the ledger; the host's name if left out.
            deadline_s: Seconds that an engine call may take; then this process ends itself.
        """
        self._ledger = ledger
        self._batch_rows = batch_rows
        self._pairs = ControlPairs()
        where = f"{node or socket.gethostname()}/{os.getpid()}"
        self._attempts = Attempts(
            engine,
            ClipStore(storage, self._pairs, where),
            ledger,
            run_id,
            worker=worker or Worker.loaded(time.monotonic()),
            where=where,
            deadline_s=deadline_s,
        )

    def produce(self, requests: Sequence[SampleRequest]) -> list[Row]:
        """Make every request and return one output row each, in order.

        Requests that can share an engine call do. If such a call fails, its requests are made one
        by one, so only the guilty one fails. The ledger forgets a sample when the driver has its
        row: if the row is lost before, with this process or its node, the clip is taken over, not
        made again.

        Several threads may call it at once: their engine calls take turns, in the order in which
        they are ready, and what one has made is stored while the next is made. Each caller holds
        the clips of one engine call at most.

        Raises:
            EngineDiedError: The engine is beyond use (lost CUDA context, dead rank). The attempt is
                recorded; the process should exit so that the task runs again elsewhere.
            UserError: The engine cannot serve these settings, or the output prefix cannot be
                written; no sample is to blame and the run must stop.
        """
        batches: dict[tuple[object, ...], list[SampleRequest]] = {}
        rows: dict[str, Row] = {}
        with self._pairs.among(requests):
            for request in requests:
                key = (*batch_key(request), self._pairs.role(request))
                batches.setdefault(key, []).append(request)
            for alike in batches.values():
                for start in range(0, len(alike), self._batch_rows):
                    for row in self._together(alike[start : start + self._batch_rows]):
                        rows[row["sample_id"]] = row
        return [rows[request.sample_id] for request in requests]

    def close(self) -> None:
        """Finish what is being stored, then end the engine; harmless when called again."""
        self._attempts.close()

    def _together(self, batch: list[SampleRequest]) -> list[Row]:
        if len(batch) == 1:
            return [self._alone(batch[0])]
        begun: list[Future[Row]] | None = None
        try:
            begun = self._attempts.together(batch)
        except (EngineDiedError, UserError):
            raise
        except Exception:  # noqa: BLE001 - any fault of a batch is settled row by row
            self._ledger.release([request.sample_id for request in batch])
        # Outside the handler: an exception in flight would keep the batch's device memory alive.
        if begun is None:
            return [self._alone(request) for request in batch]
        wait(begun)  # all of them, before a fault of one is settled
        return [self._settled(*each) for each in zip(batch, begun, strict=True)]

    def _settled(self, request: SampleRequest, begun: Future[Row]) -> Row:
        """The row of a stored clip, or that of another attempt if it could not be stored."""
        try:
            return begun.result()
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - as if the attempt had failed
            self._note(request, error)
        return self._alone(request)

    def _alone(self, request: SampleRequest) -> Row:
        """Make one sample, attempt after attempt, until it is ok or its attempts are used up."""
        while True:
            try:
                return self._attempts.alone(request)
            except (EngineDiedError, UserError):
                raise
            except Exception as error:  # noqa: BLE001 - it becomes the row's error
                self._note(request, error)

    def _note(self, request: SampleRequest, error: Exception) -> None:
        self._ledger.note([request.sample_id], type(error).__name__, message_of(error))
