"""Reads Parquet prompt files batch by batch; memory holds one batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.prompts.prompt_file import SourceFile, WantedColumns
from pipeline.prompts.row_batch import RowBatch, unreadable
from pipeline.storage.storage import READ_BLOCK_BYTES

BATCH_ROWS = 4096
BATCH_OF_FILES = 64
"""Rows in memory at once, and rows whose cells hold whole files."""
SCANNED_ROWS = 1 << 16
"""Rows at once where only a few columns are read."""


def read_parquet(file: SourceFile, wanted: WantedColumns) -> Iterator[RowBatch]:
    """Read all rows; of binary columns only those of the prompt and of files are read."""
    before = 0
    with file.open() as handle:
        try:
            # With a buffer, a column is streamed and not held as a whole.
            parquet = pq.ParquetFile(handle, buffer_size=READ_BLOCK_BYTES)
            file.size.rows = (file.size.rows or 0) + parquet.metadata.num_rows
            file.size.read_bytes += file.bytes
            if not parquet.metadata.num_rows:
                file.notes.add("files without rows", file.name)
                return
            names = parquet.schema_arrow.names
            column = file.prompt_column(wanted, names)
            read = [
                field.name
                for field in parquet.schema_arrow
                if field.name == column
                or (
                    wanted.includes(field.name)
                    and (field.name in wanted.conditions or not _binary(field))
                )
            ]
            for field in parquet.schema_arrow:
                if field.name not in read and wanted.includes(field.name):
                    file.notes.add("binary columns that are not read", field.name)
            holds_files = any(
                field.name in read and _binary(field) for field in parquet.schema_arrow
            )
            rows_at_once = BATCH_OF_FILES if holds_files else BATCH_ROWS
            for batch in parquet.iter_batches(rows_at_once, columns=read):
                yield RowBatch(file, before, batch, column, wanted)
                before += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise unreadable(file, error) from None


def distinct_cells(file: SourceFile, names: Collection[str]) -> list[dict[str, Any]]:
    """The different combinations of values that a file has in some of its columns.

    Reads no other columns. Columns that its folders stand for count.

    Raises:
        UserError: The file cannot be read.
    """
    folders = {name: value for name, value in file.partitions.items() if name in names}
    found: dict[str, dict[str, Any]] = {}
    with file.open() as handle:
        try:
            parquet = pq.ParquetFile(handle, buffer_size=READ_BLOCK_BYTES)
            read = [name for name in parquet.schema_arrow.names if name in names]
            if not read:
                return [folders] if parquet.metadata.num_rows else []
            for batch in parquet.iter_batches(SCANNED_ROWS, columns=read):
                table = pa.Table.from_batches([batch]).group_by(read).aggregate([])
                found |= {repr(row): {**folders, **row} for row in table.to_pylist()}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise unreadable(file, error) from None
    return list(found.values())


def _binary(field: pa.Field) -> bool:
    """Whether a column holds bytes, at any depth: clips and embeddings can be gigabytes."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        return any(_binary(kind.field(i)) for i in range(kind.num_fields))
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in (*binary, pa.types.is_binary_view))
