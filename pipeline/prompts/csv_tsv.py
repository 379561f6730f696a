"""Reads CSV and TSV prompt files, whose first row is the header.

A row that cannot be read becomes a row with a problem. Only a mistake that spoils the whole file
(in its header or its encoding) is an error. Memory holds one row at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError
from pipeline.prompts.delimited import Records
from pipeline.prompts.prompt_file import (
    FALLBACK_COLUMNS,
    NUMBER_COLUMNS,
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    WantedColumns,
    extension,
    lines,
    problem_row,
    source_row,
)


def read_csv(file: SourceFile, wanted: WantedColumns) -> Iterator[SourceRow]:
    """Read rows under a header, separated by commas, or by tabs in a .tsv file."""
    # Bytes that are not UTF-8 become lone surrogates: they spoil their own row only.
    decoded = (line.decode("utf-8", "surrogateescape") for _, line in lines(file, ends=True))
    records = Records(decoded, tab=extension(file.name) == ".tsv")
    header: list[str] = []
    column, row = "", 0
    for cells, raw, problem in records:
        if not header:
            if problem:
                raise UserError(f"{file.uri}: the header is not valid: {problem}")
            header = _header(cells, wanted)
            column = file.prompt_column(wanted, header) if header else ""
            records.width = len(header)
            continue
        if not cells and not problem:
            continue
        row += 1
        key = f"{file.name}:{row}"
        if not problem and any(_is_escaped(cell) for cell in cells):
            problem = "holds text that is not valid UTF-8"
        if problem:
            yield problem_row(key, raw.encode("utf-8", "surrogateescape").rstrip(), problem)
            continue
        values = dict(zip(header, map(_cell, header, cells), strict=True))
        yield source_row(key, values, column, wanted, may_mark=True)
    if records.backslashed:
        file.notes.add("rows whose quotes are escaped by backslashes", count=records.backslashed)


def _header(cells: list[str], wanted: WantedColumns) -> list[str]:
    """The names of the columns; those without a name or with one of an earlier column get one."""
    names: list[str] = []
    fixed = wanted.known | {PROMPT_COLUMN, *FALLBACK_COLUMNS}
    for place, cell in enumerate(cells, 1):
        name = cell.strip() or f"column_{place}"
        while name in names and name not in fixed:
            name += "_"
        names.append(name)
    return names


def _cell(name: str, text: str) -> Any:
    """A CSV cell as a value: "" is not given, numbers are parsed where numbers belong."""
    if text == "":
        return None
    if name not in NUMBER_COLUMNS:
        return text
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text  # the request says what is wrong with it


def _is_escaped(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text)
