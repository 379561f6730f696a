"""Reads CSV and TSV prompt files, whose first row is the header.

A row that cannot be read becomes a row with a problem. Only a mistake that spoils the whole file
(in its header or its encoding) is an error. Memory holds one row at a time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    NUMBER_COLUMNS,
    SourceFile,
    SourceRow,
    WantedColumns,
    extension,
    find_prompt_column,
    lines,
    problem_row,
    source_row,
)


def read_csv(file: SourceFile, wanted: WantedColumns) -> Iterator[SourceRow]:
    """Read rows under a header, separated by commas, or by tabs in a .tsv file."""
    raw: list[bytes] = []

    def text() -> Iterator[str]:
        for _, line in lines(file, ends=True):
            raw.append(line)
            # Bytes that are not UTF-8 become lone surrogates: they spoil their own row only.
            yield line.decode("utf-8", "surrogateescape")

    tab = extension(file.key) == ".tsv"
    reader = csv.reader(text(), delimiter="\t" if tab else ",", strict=True)
    header: list[str] = []
    column, row = "", 0
    while True:
        problem, cells = "", []
        raw.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"the row is not valid CSV: {error}"
        if not header:
            if problem:
                raise UserError(f"{file.uri}: the header is not valid: {problem}")
            header = [name.strip() for name in cells]
            column = find_prompt_column(file.uri, wanted.prompt, header) if header else ""
            continue
        if not cells and not problem:
            continue
        row += 1
        key = f"{file.name}:{row}"
        if not problem and len(cells) != len(header):
            problem = (
                f"has {len(cells)} cells where the header has {len(header)}: "
                f"put quotes round text that holds a {'tab' if tab else 'comma'}"
            )
        if not problem and any(_is_escaped(cell) for cell in cells):
            problem = "holds text that is not valid UTF-8"
        if problem:
            yield problem_row(key, b"".join(raw).rstrip(), problem)
            continue
        values = dict(zip(header, map(_cell, header, cells), strict=True))
        yield source_row(key, values, column, wanted)


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
