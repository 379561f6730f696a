"""Output rows to Parquet parts, in the driver.

Rows are small (media is stored before its row exists), so one writer is enough and keeps parts
few: a part is written after `part_rows` rows or `part_seconds` seconds, whichever comes first.
What a crash of the driver can lose is that buffer; the media of its rows are already stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.schema import SCHEMA
from pipeline.storage.storage import Storage


class Sink:
    """Appends rows to an output prefix; a part is visible whole or not at all."""

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        *,
        part_rows: int,
        part_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a sink; nothing is written yet.

        Args:
            storage: The output prefix.
            run_id: Makes part names unique among the runs of a prefix.
            part_rows: Rows after which a part is written.
            part_seconds: Seconds after which a part is written by the next row that arrives.
            clock: Monotonic seconds.
        """
        self._storage = storage
        self._run_id = run_id
        self._part_rows = part_rows
        self._part_seconds = part_seconds
        self._clock = clock
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._parts = 0
        self._since = clock()

    def add(self, table: pa.Table) -> None:
        """Take rows in `SCHEMA`; may write a part.

        Raises:
            StorageError: A part was due and could not be written. Its rows stay in the buffer.
        """
        if not table.num_rows:
            return
        self._tables.append(table if table.schema.equals(SCHEMA) else table.cast(SCHEMA))
        self._rows += table.num_rows
        if self._rows >= self._part_rows or self._clock() - self._since >= self._part_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one part.

        Raises:
            StorageError: The part could not be written. Its rows stay in the buffer.
        """
        if self._rows:
            buffer = pa.BufferOutputStream()
            table = pa.concat_tables(self._tables).replace_schema_metadata(SCHEMA.metadata)
            pq.write_table(table, buffer, compression="zstd")
            key = f"data/part-{self._run_id}-{self._parts:05d}.parquet"
            self._storage.put_bytes(key, buffer.getvalue().to_pybytes())
            self._tables, self._rows = [], 0
            self._parts += 1
        self._since = self._clock()


def conform(table: pa.Table) -> pa.Table:
    """The same rows in `SCHEMA`; nulls where a column or a field of a struct is not there.

    Raises:
        ValueError: A column has values that its type here cannot hold (pyarrow's ArrowInvalid).
    """
    columns = [
        _conform(table[field.name].combine_chunks(), field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _conform(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if not pa.types.is_struct(kind) or column.type == kind:
        return column.cast(kind)
    there = {field.name for field in column.type}
    children = [
        pc.struct_field(column, field.name).cast(field.type)
        if field.name in there
        else pa.nulls(len(column), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=column.is_null())
