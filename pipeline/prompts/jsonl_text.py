"""Reads JSONL files, with one object a line, and plain text files, with one prompt a line.

A line that cannot be read becomes a row with a problem. Memory holds one line at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import (
    PROMPT_COLUMN,
    SourceFile,
    SourceRow,
    WantedColumns,
    lines,
    problem_row,
    source_row,
    too_long,
)


def read_jsonl(file: SourceFile, wanted: WantedColumns) -> Iterator[SourceRow]:
    """Read one JSON object a line."""
    column = ""
    for number, line in lines(file):
        key = f"{file.name}:{number}"
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            text = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "not valid JSON"
            yield problem_row(key, line, f"the line is {text}{too_long(line)}")
            continue
        if not isinstance(found, dict):
            yield problem_row(key, line, 'the line is not a JSON object: write {"prompt": ...}')
            continue
        column = column or file.prompt_column(wanted, found, are_all=False)
        if column not in found:
            yield problem_row(key, line, f"{column} is missing: the object has no such field")
            continue
        yield source_row(key, found, column, wanted)


def read_text(file: SourceFile, wanted: WantedColumns) -> Iterator[SourceRow]:
    """Read one prompt a line.

    Raises:
        UserError: The user named the column of the prompt.
    """
    if wanted.prompt != PROMPT_COLUMN:
        raise UserError(
            f"{file.uri}: --prompt-column {wanted.prompt}: a text file has no columns; leave it out"
        )
    for number, line in lines(file):
        key = f"{file.name}:{number}"
        if not line.strip():
            continue
        try:
            yield SourceRow(key, {PROMPT_COLUMN: line.decode().strip()}, too_long(line))
        except UnicodeDecodeError:
            yield problem_row(key, line, "the line is not valid UTF-8")
