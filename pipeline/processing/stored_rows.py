"""Finds rows of an output prefix by their ids, without holding the rows.

They come with the scores that were given to their clips later. Whoever hands them out judges them:
the verdict of a row is that of its own run (`pipeline.processing.rows_actor`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.committed import Ids, resolve
from pipeline.dataset.parts import conform, part_files, read_parts
from pipeline.dataset.schema import SCHEMA
from pipeline.scoring.stored_scores import KeepChoice, read_stored
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

KEPT_PARTS = 32
"""Parts that stay in memory: rows of one input mostly stand together."""


class StoredRows:
    """The rows that count of an output prefix, as it is when this is made.

    Holds 18 bytes a row, and the scores that were given later. The parts must be readable
    (`pipeline.dataset.committed` checks that).
    """

    def __init__(self, storage: Storage) -> None:
        """Read the ids of all rows, and the scores that are stored beside them."""
        self._storage = storage
        self._scores = read_stored(storage, KeepChoice())
        self._files = part_files(storage)
        numbers = {file.key: number for number, file in enumerate(self._files)}

        def read(file: Any, part: StoredFile) -> pa.Table:
            table = pq.ParquetFile(file).read(["sample_id", "status"], use_threads=False)
            number = pa.array(np.full(table.num_rows, numbers[part.key], np.int64))
            return table.append_column("part", number).replace_schema_metadata(None)

        heads = list(read_parts(storage, self._files, read))
        table = resolve(pa.concat_tables(heads)) if heads else None
        ids = Ids.from_hex(table["sample_id"]) if table else Ids()
        order = np.lexsort((ids.low, ids.high))
        self._ids = ids.take(order)
        self._parts = table["part"].to_numpy()[order] if table else np.empty(0, np.int64)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self, sample_ids: list[bytes]) -> pa.Table:
        """The rows of some samples in `SCHEMA`; none of samples that the prefix does not hold.

        Raises:
            StorageError: A part cannot be read.
        """
        at = self._ids.positions(Ids.from_bytes(b"".join(sample_ids)))
        wanted = pa.array([sample_id.hex() for sample_id in sample_ids], pa.string())
        found = [SCHEMA.empty_table()]
        for number in np.unique(self._parts[at[at >= 0]]).tolist():
            part = self._part(number)
            found.append(part.filter(pc.is_in(part["sample_id"], wanted)))
        return self._scores.over(resolve(pa.concat_tables(found)))

    def _part(self, number: int) -> pa.Table:
        if number not in self._kept:
            (table,) = read_parts(self._storage, [self._files[number]], _whole)
            self._kept[number] = table
            if len(self._kept) > KEPT_PARTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


def _whole(file: Any, part: StoredFile) -> pa.Table:
    parquet = pq.ParquetFile(file)
    # Of `video` only the path: a part may carry its media inline.
    names = ["video.path" if n == "video" else n for n in parquet.schema_arrow.names]
    return conform(parquet.read(columns=names, use_threads=False).replace_schema_metadata(None))
