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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from pipeline.errors import UserError
from pipeline.prompts.condition_columns import MediaCondition
from pipeline.prompts.csv_tsv import read_csv
from pipeline.prompts.folder import parquet_files
from pipeline.prompts.jsonl_text import read_jsonl, read_text
from pipeline.prompts.parquet import read_parquet
from pipeline.prompts.prompt_file import (
    PROMPT_COLUMN,
    ReadNotes,
    SourceFile,
    SourceRow,
    SourceSize,
    WantedColumns,
    extension,
)
from pipeline.storage.storage import locate


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
        self._rows = self._read(uri, wanted)
        first = next(self._rows, None)
        if first is None:
            raise UserError(
                f"{uri}: holds no rows; give it at least one prompt{self.notes.suffix()}"
            )
        self._rows = itertools.chain([first], self._rows)

    def __next__(self) -> SourceRow:
        """Return the next row."""
        return next(self._rows)

    def _read(self, uri: str, wanted: WantedColumns) -> Iterator[SourceRow]:
        for file, read in _files(uri, self.notes):
            self.size = file.size  # all files of a source share it
            for row in read(file, wanted):
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
        yield SourceFile(storage, name, path, uri, notes, {}, length, size), READERS[kind]
        return
    if web:
        raise UserError(f"{uri}: not found; a web server cannot be listed, so name a file")
    for file in parquet_files(uri, notes):
        yield file, read_parquet


Reader = Callable[[SourceFile, WantedColumns], Iterator[SourceRow]]

READERS: Mapping[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_text,
}
"""The reader of each kind of file, by its extension."""
