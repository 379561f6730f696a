"""Reads prompts from Parquet, JSONL, CSV, TSV or plain text files as a stream of rows.

This package knows file formats; what makes a valid request is checked in `pipeline.requests`. A row
that cannot be read becomes a row with a `problem`, and the stream goes on. A file that cannot be
read ends the stream with a `UserError`. Memory holds one batch of a Parquet file or one line of a
text file.

- Text: one prompt a line; a blank line is not a row. Rows are numbered by line.
- JSONL: one object a line; a blank line is not a row. Rows are numbered by line.
- CSV, TSV: first row is the header; an empty cell means "not given". Rows are numbered without it.
- Parquet: one file, a folder or a glob pattern (`pipeline.prompts.folder`); files in order of
  their names; files without rows are counted.

The header, the schema or the first JSONL object decides which column holds the prompt. A later
JSONL object without that column is a row with a problem.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pipeline.errors import UserError
from pipeline.prompts.condition_columns import MediaCondition
from pipeline.prompts.csv_tsv import read_csv
from pipeline.prompts.folder import parquet_files
from pipeline.prompts.jsonl_text import read_jsonl, read_text
from pipeline.prompts.parquet import distinct_cells, read_parquet
from pipeline.prompts.prompt_file import (
    PROMPT_COLUMN,
    ReadNotes,
    SourceFile,
    SourceRow,
    SourceSize,
    WantedColumns,
    extension,
)
from pipeline.prompts.read_ahead import FILES_AT_ONCE, read_ahead
from pipeline.prompts.row_batch import RowBatch
from pipeline.storage.storage import locate

FEWEST_IN_COLUMNS = 256
"""Rows from which columns are faster than rows one by one; small files give fewer."""


class PromptRows(Iterator[SourceRow]):
    """The rows of a source, read as they are asked for.

    Attributes:
        notes: What the readers have left out so far.
        size: What the files tell of the number of rows.
    """

    def __init__(self, uri: str, wanted: WantedColumns) -> None:
        """Read the first row, so that a bad source is refused here."""
        self.notes = ReadNotes()
        self.size = SourceSize()
        self._wanted = wanted
        read = self._read(uri)
        first = next(read, None)
        if first is None:
            raise UserError(
                f"{uri}: holds no rows; give it at least one prompt{self.notes.suffix()}"
            )
        self._parts = itertools.chain([first], read)
        self._rows = (row for part in self._parts for row in _rows_of(part))

    def __next__(self) -> SourceRow:
        """Return the next row."""
        return next(self._rows)

    def chunks(self, size: int, limit: int | None = None) -> Iterator[RowBatch | list[SourceRow]]:
        """The rows in chunks: columns where a file has them and names no files, else rows.

        Not to be mixed with taking single rows.

        Args:
            size: Most rows of a chunk.
            limit: Rows after which nothing more is read; None reads all.
        """
        left = sys.maxsize if limit is None else limit
        rows: list[SourceRow] = []
        for part in self._parts if left else ():
            if isinstance(part, RowBatch) and len(part) >= min(size, FEWEST_IN_COLUMNS):
                if rows:
                    yield rows
                    rows = []
                for batch in part.first(left).cut(size):
                    left -= len(batch)
                    yield batch
            else:
                for row in itertools.islice(_rows_of(part), left):
                    left -= 1
                    rows.append(row)
                    if len(rows) == size:
                        yield rows
                        rows = []
            if not left:
                break
        if rows:
            yield rows

    def _read(self, uri: str) -> Iterator[RowBatch | SourceRow]:
        wanted = self._wanted
        for file, read in read_ahead(_files(uri, self.notes)):
            self.size = file.size  # all files of a source share it
            for part in read(file, wanted):
                if isinstance(part, RowBatch) and not wanted.conditions:
                    if len(part):
                        yield part
                    continue
                for row in _rows_of(part):
                    has_files = wanted.conditions & row.values.keys()
                    yield replace(row, folder=file.folder) if has_files else row


def read_source(
    uri: str,
    prompt_column: str = PROMPT_COLUMN,
    columns: Collection[str] = (),
    conditions: Iterable[MediaCondition] = (),
) -> PromptRows:
    """Open a source of prompts.

    Args:
        uri: A path or any fsspec URI; for Parquet also a folder or a glob pattern.
        prompt_column: Column of the prompt. The default also finds `caption` or `text`.
        columns: The columns to read besides the prompt; empty reads all.
        conditions: What the model takes besides texts; other columns of files are like any other.

    Returns:
        An iterator that reads the rows as they are asked for. The first row is read at once, so
        that a bad file is refused here. Only the later files of a Parquet folder can still raise.

    Raises:
        UserError: The source is missing, empty, damaged or of an unknown kind, or it has no such
            column.
    """
    taken = frozenset(each.column for each in conditions)
    return PromptRows(uri, WantedColumns(prompt_column, frozenset(columns), taken))


def distinct_values(uri: str, names: Collection[str]) -> list[dict[str, Any]] | None:
    """The different combinations of values in some columns of a source.

    Args:
        uri: As for `read_source`.
        names: The columns.

    Returns:
        Column name to value; None where only reading all of the source would tell.

    Raises:
        UserError: The source cannot be read.
    """
    files = list(_files(uri, ReadNotes()))
    if any(read is not read_parquet for _, read in files):
        return None
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        found = pool.map(lambda file: distinct_cells(file, names), [file for file, _ in files])
        return list({repr(row): row for rows in found for row in rows}.values())


def _rows_of(part: RowBatch | SourceRow) -> Iterable[SourceRow]:
    return [part] if isinstance(part, SourceRow) else part


def _files(uri: str, notes: ReadNotes) -> Iterator[tuple[SourceFile, Reader]]:
    web = uri.startswith(("http://", "https://"))
    storage, name = locate(uri)
    path = name.partition("?")[0] if web else name
    kind = extension(path)
    if storage.exists(name):
        if kind not in READERS:
            raise UserError(f"{uri}: unknown kind of file; use one of {', '.join(READERS)}")
        length = max(0, storage.size(name) or 0)  # negative where a server does not say
        size = SourceSize(total_bytes=length)
        file = SourceFile(storage, name, path, uri, notes, {}, length, size, is_alone=True)
        yield file, READERS[kind]
        return
    if web:
        raise UserError(f"{uri}: not found; a web server cannot be listed, so name a file")
    for file in parquet_files(uri, notes):
        yield file, read_parquet


Reader = Callable[[SourceFile, WantedColumns], Iterator[RowBatch] | Iterator[SourceRow]]

READERS: Mapping[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_text,
}
"""The reader of each kind of file, by its extension."""
