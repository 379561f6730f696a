"""Turns requests into output rows with stored clips: the work of one group, without Ray.

Decides which samples share an engine call, and what is tried again after a failure: first the
samples of the failed call one by one, then the guilty one until its attempts are used up. A single
attempt is in `pipeline.attempts.attempt`.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait

from pipeline.attempts.attempt import AttemptLedger, Attempts
from pipeline.attempts.in_a_row import FailuresInARow
from pipeline.dataset.clip_store import ClipStore
from pipeline.dataset.schema import Row
from pipeline.engine.protocol import Engine, EngineDiedError, batch_key
from pipeline.errors import UserError, message_of
from pipeline.process import Worker
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs
from pipeline.scoring.panel import ScorerPanel
from pipeline.storage.storage import Storage


class BatchRunner:
    """Runs an engine on batches of requests and stores the clips."""

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
        panel: ScorerPanel | None = None,
        keep_drafts: bool = False,
        draft_panel: ScorerPanel | None = None,
        calls: int = 1,
    ) -> None:
        """Bind an engine to an output prefix.

        Args:
            engine: The loaded model.
            storage: The output prefix.
            ledger: Records attempts before they begin.
            run_id: Goes into every row.
            batch_rows: Most samples in one engine call.
            worker: This process, for the rows; by default one that has just loaded its model.
            node: Name of this node, for the ledger; by default the host's name.
            deadline_s: Longest engine call in seconds; after that this process ends itself.
            panel: Scores the clips; by default nothing does.
            keep_drafts: Whether the clips of drafts are stored.
            draft_panel: Scores drafts; by default `panel`.
            calls: Engine calls at once.
        """
        self._ledger = ledger
        self._batch_rows = batch_rows
        self._pairs = ControlPairs()
        worker = worker or Worker.loaded(time.monotonic())
        self._own_id = worker.id
        where = f"{node or socket.gethostname()}/{os.getpid()}"
        self._attempts = Attempts(
            engine,
            ClipStore(
                storage,
                self._pairs,
                panel or ScorerPanel(()),
                where,
                keep_drafts=keep_drafts,
                draft_panel=draft_panel,
            ),
            ledger,
            run_id,
            worker=worker,
            where=where,
            deadline_s=deadline_s,
            pairs=self._pairs,
            calls=calls,
        )
        self._in_a_row = FailuresInARow(self._attempts, ledger, where)

    def process(self, requests: Sequence[SampleRequest]) -> list[Row]:
        """Make every request and return one output row each, in order.

        Requests share an engine call if they can. If the call fails, they are made one by one, so
        that only the guilty one fails. The ledger keeps a sample until the driver has its row: if
        the row is lost before, with this process or its node, the clip is taken over, not made
        again.

        Several threads may call this at once. Their engine calls take turns (`calls` of them at
        once), in the order in which they are ready, and the clips of one call are stored during
        the next. Each caller holds the clips of one engine call at most.

        Raises:
            EngineDiedError: The engine is beyond use (lost CUDA context, dead rank). The attempt is
                recorded; the process should exit so that the task runs again elsewhere.
            UserError: The engine cannot run with these settings, or the output prefix cannot be
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
                        if row["status"] != "ok":
                            self._pairs.failed(row["sample_id"])
        return [rows[request.sample_id] for request in requests]

    def close(self) -> None:
        """Finish storing clips, then end the engine; may be called again."""
        self._attempts.close()

    def _together(self, batch: list[SampleRequest]) -> list[Row]:
        if len(batch) == 1:
            return [self._alone(batch[0])]
        begun: list[Future[Row]] | None = None
        try:
            begun = self._attempts.together(batch)
        except (EngineDiedError, UserError):
            raise
        except Exception:  # noqa: BLE001 - its samples are made one by one
            self._ledger.release([request.sample_id for request in batch])
        # Outside the handler: an exception in flight would keep the batch's device memory alive.
        if begun is None:
            return [self._alone(request) for request in batch]
        wait(begun)  # for all of them, before the error of one is handled
        return [self._settled(*each) for each in zip(batch, begun, strict=True)]

    def _settled(self, request: SampleRequest, begun: Future[Row]) -> Row:
        """The row of a stored clip, or of another attempt if it could not be stored."""
        try:
            row = begun.result()
            self._in_a_row.made(request)
            return row
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - handled as a failed attempt
            self._note(request, error)
        return self._alone(request)

    def _alone(self, request: SampleRequest) -> Row:
        """Make one sample, attempt after attempt, until it is ok or its attempts are used up."""
        raised = ""
        while True:
            try:
                row = self._attempts.alone(request)
                break
            except (EngineDiedError, UserError):
                raise
            except Exception as error:  # noqa: BLE001 - it becomes the row's error
                self._note(request, error)
                raised = f"{type(error).__name__}: {message_of(error)}"
        if row["status"] == "ok" and row["worker"]["id"] == self._own_id:  # not taken over
            self._in_a_row.made(request)
        elif row["status"] == "failed" and raised:
            self._in_a_row.failed(request, raised)
        return row

    def _note(self, request: SampleRequest, error: Exception) -> None:
        self._ledger.note([request.sample_id], type(error).__name__, message_of(error))
