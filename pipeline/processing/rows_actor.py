"""The second and the third stage: groups make the rows, then tasks store them as parts.

A row leaves the third stage when its part is stored: what a program sees is committed. It leaves
with the verdict of one condition, whichever run made it.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster.group_actor import GroupActor
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import SCHEMA
from pipeline.process import begin_actor
from pipeline.processing.intake_actor import (
    FINAL_COLUMN,
    FINAL_ROWS,
    STORED_COLUMN,
    opened,
    with_stored,
)
from pipeline.requests.packing import REQUEST_COLUMN
from pipeline.scoring.stored_scores import KeepChoice, judged, read_choice
from pipeline.storage.storage import Storage


class RowsActor(GroupActor):
    """A group that passes rows on that are final already.

    It loads its model with the first request; a program whose clips are all made loads none.
    """

    def __init__(self, **settings: Any) -> None:
        """Keep the settings of a `GroupActor`."""
        begin_actor()  # also where it never loads a model
        self._settings = settings
        self._is_loaded, self._loading = False, threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map units of requests and final rows to output rows, in `FINAL_ROWS`."""
        tables = [FINAL_ROWS.empty_table()]
        tables += map(opened, batch[FINAL_COLUMN].drop_null().to_pylist())
        packed = batch.filter(pc.not_equal(batch[REQUEST_COLUMN], "")).select([REQUEST_COLUMN])
        if packed.num_rows:
            self._load()
            tables.append(with_stored(super().__call__(packed), stored=False))
        return pa.concat_tables(tables)

    def _load(self) -> None:
        with self._loading:  # of several tasks here, one loads for all
            if not self._is_loaded:
                super().__init__(**self._settings)
                self._is_loaded = True


def store_part(storage: Storage, run_id: str, rows: pa.Table) -> None:
    """Store rows as one part with a name of its own, if there are any.

    Raises:
        StorageError: It cannot be written.
    """
    name = f"{run_id}-{secrets.token_hex(6)}"
    parts = PartWriter(storage, name, part_rows=rows.num_rows + 1, part_seconds=float("inf"))
    parts.add(rows)
    parts.flush()


def store_rows(
    batch: pa.Table, storage: Storage, run_id: str, ledger: RemoteLedger, own: KeepChoice
) -> pa.Table:
    """Store the new rows of a batch as one part, and return all of its rows, judged.

    If Ray runs the task again, after it has lost a node, the rows are stored twice; readers take
    the first row of an id.

    Args:
        batch: Output rows in `FINAL_ROWS`.
        storage: The output prefix.
        run_id: Of the run.
        ledger: Hears which samples are done.
        own: The condition of the run; without `keep` that of the prefix judges the rows, and
            where there is none either, each row keeps the verdict of its own run.

    Raises:
        UserError: The condition of the prefix is invalid.
        StorageError: The part cannot be written, or the condition of the prefix not be read.
    """
    rows = batch.drop_columns([STORED_COLUMN]).cast(SCHEMA)
    new = rows.filter(pc.invert(batch[STORED_COLUMN]))
    if new.num_rows:
        store_part(storage, run_id, new)
        ledger.finish(new["sample_id"].to_pylist(), new["status"].to_pylist())
    return judged(rows, own if own.keep else read_choice(storage))
