"""Reads Parquet prompt files batch by batch; memory holds one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    SourceFile,
    SourceRow,
    WantedColumns,
    source_row,
)
from pipeline.storage.storage import READ_BLOCK_BYTES

BATCH_ROWS = 1024
BATCH_OF_FILES = 64
"""Rows in memory at once, and rows whose cells hold whole files."""


def read_parquet(file: SourceFile, wanted: WantedColumns) -> Iterator[SourceRow]:
    """Read all rows; of binary columns only those of the prompt and of files are read."""
    row = 0
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
                for cells in _batch_rows(batch):
                    row += 1
                    key = f"{file.name}:{row}"
                    if cells:
                        yield source_row(
                            key, {**file.partitions, **cells}, column, wanted, may_mark=True
                        )
                    else:
                        yield SourceRow(key, {}, "holds text that is not valid UTF-8")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            text = " ".join(str(error).split())[:200]
            raise UserError(f"{file.uri}: not a Parquet file, or a damaged one: {text}") from None


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as dictionaries; an empty one where text is not UTF-8.

    A batch that holds such text is read row by row, so that the other rows keep their values.
    """
    try:
        columns = [cells.to_pylist() for cells in batch.columns]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield {}
            return
        for i in range(batch.num_rows):
            yield from _batch_rows(batch.slice(i, 1))
        return
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _binary(field: pa.Field) -> bool:
    """Whether a column holds bytes, at any depth: clips and embeddings can be gigabytes."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        return any(_binary(kind.field(i)) for i in range(kind.num_fields))
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in (*binary, pa.types.is_binary_view))
