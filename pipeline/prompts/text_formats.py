"""The line-wise formats: JSONL, CSV, TSV and plain text, in bounded memory.

A line or row that cannot be read becomes a row with a problem; only what spoils the whole file (its
header, its encoding) is an error.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    NUMBER_COLUMNS,
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    extension,
    known_values,
    settle_column,
)

MAX_LINE_BYTES = 1 << 20
"""Longer lines are cut: they become rows with a problem, never a full memory."""


def read_jsonl(file: SourceFile, prompt_column: str) -> Iterator[SourceRow]:
    """Read one JSON object a line."""
    column = ""
    for number, line in _lines(file):
        key = f"{file.name}:{number}"
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            text = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "not valid JSON"
            yield _problem(key, line, f"the line is {text}{_too_long(line)}")
            continue
        if not isinstance(found, dict):
            yield _problem(key, line, 'the line is not a JSON object: write {"prompt": ...}')
            continue
        column = column or settle_column(file.uri, prompt_column, list(found))
        if column not in found:
            yield _problem(key, line, f"has no {column!r}")
            continue
        yield SourceRow(key, known_values(found, column))


def read_csv(file: SourceFile, prompt_column: str) -> Iterator[SourceRow]:
    """Read rows under a header, separated by commas, or by tabs in a .tsv file."""
    raw: list[bytes] = []

    def text() -> Iterator[str]:
        for _, line in _lines(file, ends=True):
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
            column = settle_column(file.uri, prompt_column, header) if header else ""
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
            yield _problem(key, b"".join(raw).rstrip(), problem)
            continue
        values = dict(zip(header, map(_cell, header, cells), strict=True))
        yield SourceRow(key, known_values(values, column))


def read_text(file: SourceFile, prompt_column: str) -> Iterator[SourceRow]:
    """Read one prompt a line; `prompt_column` does not apply."""
    for number, line in _lines(file):
        key = f"{file.name}:{number}"
        if not line.strip():
            continue
        try:
            yield SourceRow(key, {PROMPT_COLUMN: line.decode().strip()}, _too_long(line))
        except UnicodeDecodeError:
            yield _problem(key, line, "the line is not valid UTF-8")


def _lines(file: SourceFile, *, ends: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, cut at `MAX_LINE_BYTES`; without line ends unless asked."""
    with file.open() as handle:
        for number in itertools.count(1):
            line = handle.readline(MAX_LINE_BYTES)
            if not line:
                return
            rest = line
            while len(rest) == MAX_LINE_BYTES and rest[-1:] != b"\n":
                rest = handle.readline(MAX_LINE_BYTES)
            if number == 1:
                if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise UserError(f"{file.uri}: is UTF-16 text; save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line if ends else line.rstrip(b"\r\n")


def _problem(key: str, line: bytes, problem: str) -> SourceRow:
    return SourceRow(
        key, {PROMPT_COLUMN: line[:MAX_LINE_BYTES].decode("utf-8", "replace")}, problem
    )


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


def _too_long(line: bytes) -> str:
    if len(line) < MAX_LINE_BYTES - 2:
        return ""
    return f" (it is longer than {MAX_LINE_BYTES >> 20} MiB)"
