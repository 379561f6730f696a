"""Reads Parquet prompt files batch by batch; memory holds one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    KNOWN_COLUMNS,
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    find_prompt_column,
)
from pipeline.storage.storage import READ_BLOCK_BYTES

BATCH_ROWS = 1024


def read_parquet(file: SourceFile, prompt_column: str) -> Iterator[SourceRow]:
    """Read the known columns of all rows."""
    row = 0
    with file.open() as handle:
        try:
            # With a buffer, a column is streamed and not held as a whole.
            parquet = pq.ParquetFile(handle, buffer_size=READ_BLOCK_BYTES)
            names = parquet.schema_arrow.names
            column = find_prompt_column(file.uri, prompt_column, names)
            wanted = [
                name for name in dict.fromkeys([column, *names]) if name in KNOWN_COLUMNS | {column}
            ]
            for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted):
                for cells in _batch_rows(batch, column):
                    row += 1
                    problem = "" if cells else "holds text that is not valid UTF-8"
                    yield SourceRow(f"{file.name}:{row}", cells or {}, problem)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            text = " ".join(str(error).split())[:200]
            raise UserError(f"{file.uri}: not a Parquet file, or a damaged one: {text}") from None


def _batch_rows(batch: pa.RecordBatch, column: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as dictionaries; an empty one where text is not UTF-8.

    A batch that holds such text is read row by row, so that the other rows keep their values.
    """
    names = [PROMPT_COLUMN if name == column else name for name in batch.schema.names]
    try:
        columns = [cells.to_pylist() for cells in batch.columns]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield {}
            return
        for i in range(batch.num_rows):
            yield from _batch_rows(batch.slice(i, 1), column)
        return
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))
