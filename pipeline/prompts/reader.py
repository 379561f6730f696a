"""Reads prompts from Parquet, JSONL, CSV, TSV or plain text files as a stream of rows.

This package knows file formats; what makes a valid request is checked in `pipeline.requests`. A row
that cannot be read becomes a row with a `problem`, and the stream goes on. A file that cannot be
read ends the stream with a `UserError`. Memory holds one batch of a Parquet file or one line of a
text file.

- Text: one prompt a line; a blank line is not a row. Rows are numbered by line.
- JSONL: one object a line; a blank line is not a row. Rows are numbered by line.
- CSV, TSV: first row is the header; an empty cell means "not given". Rows are numbered without it.
- Parquet: one file, a folder or a glob pattern; files in order of their names.

The header, the schema or the first JSONL object decides which column holds the prompt. A later
JSONL object without that column is a row with a problem.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pipeline.errors import UserError
from pipeline.prompts.csv_tsv import read_csv
from pipeline.prompts.jsonl_text import read_jsonl, read_text
from pipeline.prompts.parquet import read_parquet
from pipeline.prompts.prompt_file import (
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    WantedColumns,
    extension,
)
from pipeline.storage.storage import Storage, locate


def read_source(
    uri: str, prompt_column: str = PROMPT_COLUMN, columns: Collection[str] = ()
) -> Iterator[SourceRow]:
    """Open a source of prompts.

    Args:
        uri: A path or any fsspec URI; for Parquet also a folder or a glob pattern.
        prompt_column: Column of the prompt. The default also finds `caption` or `text`.
        columns: The columns to read besides the prompt; empty reads all.

    Returns:
        An iterator that reads the rows as they are asked for. The first row is read at once, so
        that a bad file is refused here. Only the later files of a Parquet folder can still raise.

    Raises:
        UserError: The source is missing, empty, damaged or of an unknown kind, or it has no such
            column.
    """
    rows = _rows(uri, WantedColumns(prompt_column, frozenset(columns)))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{uri}: holds no rows; give it at least one prompt")
    return itertools.chain([first], rows)


def _rows(uri: str, wanted: WantedColumns) -> Iterator[SourceRow]:
    storage, name = locate(uri)
    kind = extension(name)
    if storage.exists(name):
        if kind not in READERS:
            raise UserError(f"{uri}: unknown kind of file; use one of {', '.join(READERS)}")
        yield from READERS[kind](SourceFile(storage, name, name, uri), wanted)
        return
    for file in _parquet_files(uri):
        yield from read_parquet(file, wanted)


def _parquet_files(uri: str) -> list[SourceFile]:
    """Find the files of a folder or glob pattern; `*` does not cross folders."""
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


READERS: Mapping[str, Callable[[SourceFile, WantedColumns], Iterator[SourceRow]]] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_text,
}
"""The reader of each kind of file, by its extension."""
