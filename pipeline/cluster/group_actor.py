"""The callable class that Ray Data maps: one actor owns one group and its engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Never

import pyarrow as pa
import ray

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.calibration.measurement import FirstClips
from pipeline.candidates.best_of import make_best
from pipeline.candidates.drafts import DraftSettings
from pipeline.candidates.redraws import make_with_redraws
from pipeline.cluster import nodes
from pipeline.cluster.actor_load import load_here, retire_briefly
from pipeline.cluster.first_clips import FirstClipsHere
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.cluster.text_stage import TEXTS_COLUMN, with_texts
from pipeline.dataset.schema import Row, to_table
from pipeline.engine.own_thread import OwnThreadEngine
from pipeline.engine.protocol import BadNodeError, EngineDiedError, EngineFactory
from pipeline.errors import UserError
from pipeline.monitoring.prometheus import WatchedEngine, say_state
from pipeline.process import (
    EXIT_ENGINE_DIED,
    EXIT_OVERDUE,
    LAST_ACTS_S,
    Worker,
    begin_actor,
    briefly,
    end_after,
    end_process,
)
from pipeline.requests.controls import unpack
from pipeline.requests.packing import REQUEST_COLUMN
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.conditions import RowRank
from pipeline.scoring.panel import ScoringPlan
from pipeline.storage.storage import Storage

logger = logging.getLogger(__name__)

ENGINE_CALLS = {"inline": 1, "beside": 2}
"""Engine calls at once by `--stages.decode`: one samples, and one may decode beside it."""

CALLS_AT_ONCE = {decode: calls + 1 for decode, calls in ENGINE_CALLS.items()}
"""Tasks inside one actor: those of the engine calls, and one whose clips are encoded and stored.

It also limits the clips that wait in an actor's memory (times `batch_rows`), and the tasks that are
tied to an actor: they cannot move to an idle one.
"""


NO_SCORING = ScoringPlan()
NO_DRAFTS = DraftSettings()


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
        first: FirstClips | None = None,
        scoring: ScoringPlan = NO_SCORING,
        drafts: DraftSettings = NO_DRAFTS,
        calls: int = 1,
    ) -> None:
        """Load the model; called once per actor and again after each restart."""
        begin_actor()
        self._ledger = ledger
        say_state("loading")
        self._panel = load_here(scoring.panel, ledger, "the scorers")
        self._drafts, self._storage = drafts, storage
        self._rank: RowRank | None = None
        if drafts.best_of > 1:
            self._rank = RowRank(drafts.select_by, self._panel.names)
        began = time.monotonic()
        engine = load_here(
            lambda: WatchedEngine(OwnThreadEngine(factory, calls)), ledger, "the model"
        )
        worker = Worker.loaded(began, ray.get_runtime_context().get_node_labels())
        self._runner = BatchRunner(
            engine,
            storage,
            ledger,
            run_id,
            batch_rows=batch_rows,
            worker=worker,
            node=nodes.own_name(),
            deadline_s=deadline_s,
            panel=self._panel,
            keep_drafts=drafts.keep,
            draft_panel=self._panel.only(self._rank.asked) if self._rank else None,
            calls=calls,
        )
        self._first: FirstClipsHere | None = None
        if first is not None:
            self._first = FirstClipsHere(
                first,
                ledger,
                self._runner.process,
                deadline_s,
                ray.get_runtime_context().get_actor_id() or "",
                nodes.is_alive,
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map a block of packed requests to a table of their output rows, and of further tries."""
        units = [unpack(text) for text in batch[REQUEST_COLUMN].to_pylist()]
        if TEXTS_COLUMN in batch.column_names:
            encoded = batch[TEXTS_COLUMN].to_pylist()
            units = [with_texts(unit, texts) for unit, texts in zip(units, encoded, strict=True)]
        try:
            return to_table(self._rows(units))
        except UserError as error:
            self._ledger.complain(str(error))
            raise
        except EngineDiedError as error:
            self._leave(error)

    def _rows(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        """The rows of units, each the best of some drafts or with the redraws that it needs."""
        if self._rank is None:
            return make_with_redraws(units, self._make, self._panel)
        return make_best(
            units,
            self._make,
            self._drafts,
            self._rank,
            self._storage,
            settle=self._first.settle if self._first else list,
            forget=self._ledger.finish,
        )

    def _make(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        """The rows of units, in order."""
        if self._first is not None:
            return self._first.process(units)
        return self._runner.process([each for unit in units for each in unit])

    def _leave(self, error: EngineDiedError) -> Never:
        """End this process, and with a bad node its service, so that Ray goes on elsewhere.

        Ray does not restart an actor that raises. Only the end of the process makes it start a
        fresh one, with a new device context, and run the task again there.
        """
        if isinstance(error, BadNodeError) and not retire_briefly(str(error)):
            text = (
                f"{error}, and the cluster has no other: look into that node, add one, and "
                "run the same command again"
            )
            self._ledger.complain(text)
            raise UserError(text) from error
        end_after(
            EXIT_ENGINE_DIED,
            lambda: logger.error("restarting this process: %s", error, exc_info=error),
            self._runner.close,  # stores the clips of the other call, to be taken over later
        )

    def __del__(self) -> None:
        """Ray Data drops its actors when they have nothing left to do."""
        if hasattr(self, "_runner") and not briefly(self._runner.close, LAST_ACTS_S):
            end_process(EXIT_OVERDUE)  # or its device would not become free
