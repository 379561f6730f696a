"""Prompts in: Parquet, JSONL, CSV, TSV or plain text, as a stream of rows.

Knows file formats, never what makes a good request. A row that cannot be read is a row with a
`problem`, and the stream goes on; a file that cannot be read ends it with a `UserError`. Memory is
bounded by one batch of a Parquet file or one line of a text file.

- Text: one prompt a line; a blank line is not a row. Rows are numbered by line.
- JSONL: one object a line; a blank line is not a row. Rows are numbered by line.
- CSV, TSV: first row is the header; an empty cell means "not given". Rows are numbered without it.
- Parquet: one file, a folder or a glob pattern; files in order of their names.

The column of the text is settled by the header, the schema or the first JSONL object. Where a later
JSONL object lacks it, that row has a problem.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    KNOWN_COLUMNS,
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    extension,
    settle_column,
)
from pipeline.prompts.text_formats import read_csv, read_jsonl, read_text
from pipeline.storage.storage import READ_BLOCK_BYTES, Storage, locate

BATCH_ROWS = 1024


def read_source(uri: str, prompt_column: str = PROMPT_COLUMN) -> Iterator[SourceRow]:
    """Open a source of prompts.

    Args:
        uri: A path or any fsspec URI; for Parquet also a folder or a glob pattern.
        prompt_column: Column of the text. The default also finds `caption` or `text`.

    Returns:
        The rows, read as they are asked for; the first is read at once, so that a bad file is
        refused here. Only the later files of a Parquet folder can still raise.

    Raises:
        UserError: The source is missing, empty, damaged, of an unknown kind, or has no such column.
    """
    rows = _rows(uri, prompt_column)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{uri}: holds no rows; give it at least one prompt")
    return itertools.chain([first], rows)


def _rows(uri: str, prompt_column: str) -> Iterator[SourceRow]:
    storage, name = locate(uri)
    kind = extension(name)
    if storage.exists(name):
        if kind not in READERS:
            raise UserError(f"{uri}: unknown kind of file; use one of {', '.join(READERS)}")
        yield from READERS[kind](SourceFile(storage, name, name, uri), prompt_column)
        return
    for file in _parquet_files(uri):
        yield from _parquet(file, prompt_column)


def _parquet_files(uri: str) -> list[SourceFile]:
    """The files of a folder or glob pattern; `*` does not cross folders."""
    folder, pattern = uri.rstrip("/"), ""
    while any(sign in folder for sign in "*?["):
        folder, _, last = folder.rpartition("/")
        pattern = f"{last}/{pattern}" if pattern else last
    storage = Storage(folder or ("/" if uri.startswith("/") else "."))
    wanted = pattern.split("/")
    found = [
        SourceFile(storage, entry.key, entry.key, f"{storage.uri}/{entry.key}")
        for entry in storage.list()
        if not pattern or _matches(entry.key.split("/"), wanted)
    ]
    files = [file for file in found if extension(file.key) == ".parquet"]
    if files:
        return files
    if found:
        raise UserError(f"{uri}: holds no .parquet file; name one file of another kind directly")
    raise UserError(f"{uri}: not found; name a file, or a folder or pattern of .parquet files")


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def _parquet(file: SourceFile, prompt_column: str) -> Iterator[SourceRow]:
    row = 0
    with file.open() as handle:
        try:
            # A buffer streams a column instead of holding the whole of it.
            parquet = pq.ParquetFile(handle, buffer_size=READ_BLOCK_BYTES)
            names = parquet.schema_arrow.names
            column = settle_column(file.uri, prompt_column, names)
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
    """Rows of a batch as dictionaries; an empty one where text is not UTF-8.

    Where one row spoils its batch, the rows are read one by one.
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


READERS: Mapping[str, Callable[[SourceFile, str], Iterator[SourceRow]]] = {
    ".parquet": _parquet,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_text,
}
"""Reader of each kind of file, by its extension."""
