"""What the readers of all formats share: a file, its lines, a row, and the column of the prompt."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline.errors import UserError
from pipeline.prompts.column_names import check_named, close_name, other_separator
from pipeline.redaction import redact
from pipeline.storage.storage import Storage

PROMPT_COLUMN = "prompt"
"""Default column of the prompt; only this default falls back to `FALLBACK_COLUMNS`."""
FALLBACK_COLUMNS = ("caption", "text")
NUMBER_COLUMNS = frozenset(
    {
        *("seed", "width", "height", "num_frames", "fps"),
        *("num_inference_steps", "guidance_scale", "guidance_scale_2"),
    }
)
KNOWN_COLUMNS = NUMBER_COLUMNS | {"negative_prompt"}
"""Columns that set something of a clip, apart from what the model takes as conditions."""

NAMES_KEPT = 100
"""Most columns of a file that are remembered for messages."""

MAX_LINE_BYTES = 1 << 20
"""Longer lines are cut and become rows with a problem, so that they cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One input row.

    Attributes:
        key: Its place, `file:row`, counted from 1.
        values: Known columns, with the prompt under `prompt`. None or absent means "not given". For
            a row with a problem: what could be read of it.
        problem: Why the row cannot be read, "" if it can.
        other: Its other columns, as the file holds them; kept as `source` of the output row.
        may_mark: Whether writers of its format put words or NaN where a value is missing.
        folder: URI of its file's folder, if it names files: relative paths start there.
    """

    key: str
    values: dict[str, Any] = field(hash=False)
    problem: str = ""
    other: dict[str, Any] = field(default_factory=dict, hash=False)
    may_mark: bool = field(default=False, compare=False)
    folder: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class WantedColumns:
    """The columns that are read.

    Attributes:
        prompt: Column of the prompt. The default also finds `caption` or `text`.
        only: The columns to read besides the prompt; empty reads all.
        conditions: The columns whose files the model takes.
    """

    prompt: str = PROMPT_COLUMN
    only: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        """The columns that set something of a clip, apart from the prompt."""
        return KNOWN_COLUMNS | self.conditions

    def includes(self, name: str) -> bool:
        """Whether a column other than the prompt is read."""
        return not self.only or name in self.only


@dataclass(slots=True)
class ReadNotes:
    """What the readers left out or read in a way of their own, to be said at the run's start.

    Attributes:
        counts: How many, by what they are.
        examples: The first of each.
        names: Columns of the files, in their order, whether they are read or not.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)

    def add(self, what: str, example: str = "", *, count: int = 1) -> None:
        """Count something."""
        self.counts[what] += count
        self.examples.setdefault(what, example)

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [
            f"{what}: {count:,}" + (f", e.g. {self.examples[what]}" if self.examples[what] else "")
            for what, count in self.counts.items()
        ]

    def suffix(self) -> str:
        """The lines in brackets, "" without any."""
        return f" ({'; '.join(self.lines())})" if self.counts else ""


@dataclass(slots=True)
class SourceSize:
    """What the files of a source tell of its number of rows before all are read.

    Attributes:
        total_bytes: Of all files; 0 if it is unknown.
        read_bytes: Of the lines that were read, or the Parquet files that were opened.
        rows: Of the Parquet files that were opened; None where files do not tell.
    """

    total_bytes: int = 0
    read_bytes: int = 0
    rows: int | None = None

    def expected(self, read: int) -> int | None:
        """Rows of the source, if all of its bytes are like those read; None while nothing tells.

        Args:
            read: Rows that were read so far.
        """
        if self.read_bytes <= 0 or self.total_bytes <= 0:
            return None
        share = max(1.0, self.total_bytes / self.read_bytes)
        return max(read, round((read if self.rows is None else self.rows) * share))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file.

    Attributes:
        storage: Where it is.
        key: Its key there.
        name: Its name in row keys.
        uri: Its name in messages.
        notes: What its reader has to say.
        partitions: Columns that its folders stand for; a column of the file wins.
        bytes: Its size; 0 if it is unknown.
        size: Of the whole source.
        is_alone: Whether it is the whole source.
    """

    storage: Storage
    key: str
    name: str
    uri: str
    notes: ReadNotes = field(default_factory=ReadNotes, compare=False)
    partitions: Mapping[str, Any] = field(default_factory=dict, compare=False)
    bytes: int = field(default=0, compare=False)
    size: SourceSize = field(default_factory=SourceSize, compare=False)
    is_alone: bool = field(default=False, compare=False)

    @property
    def folder(self) -> str:
        """URI of its folder."""
        return f"{self.storage.uri}/{self.key}".rpartition("/")[0]

    def prompt_column(
        self, wanted: WantedColumns, names: Iterable[str], *, are_all: bool = True
    ) -> str:
        """Return the column that holds its prompts, and note one that the user did not name.

        Args:
            wanted: What is read.
            names: Columns of the file.
            are_all: Whether it can have no others in later rows.

        Raises:
            UserError: As `find_prompt_column` does; or the file is the whole source and lacks a
                column that the user named.
        """
        names = list(names)
        self.notes.names |= dict.fromkeys(names[:NAMES_KEPT])
        if self.is_alone and are_all:
            check_named(sorted(wanted.only - {wanted.prompt, *FALLBACK_COLUMNS, *names}), names)
        column = find_prompt_column(self.uri, wanted, names)
        if column != wanted.prompt:
            what = f"files without a column {wanted.prompt!r}, whose prompts are in {column!r}"
            self.notes.add(what, self.name)
        return column

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return self.storage.open(self.key)


def find_prompt_column(uri: str, wanted: WantedColumns, names: Iterable[str]) -> str:
    """Return the name of the column that holds the prompt.

    Raises:
        UserError: There is no such column, or a column that matters exists twice.
    """
    names = list(names)
    column = wanted.prompt
    choices = (column, *FALLBACK_COLUMNS) if column == PROMPT_COLUMN else (column,)
    found = next((name for name in choices if name in names), "")
    if not found:
        shown = ", ".join(map(repr, names[:20])) or "none"
        near = close_name(column, names)
        why = f" (did you mean {near!r}?)" if near else ""
        why = other_separator(names) or f"{why}; set --prompt-column to one of: {shown}"
        raise UserError(f"{uri}: no column {column!r}{why}")
    for name in (found, *wanted.known):
        if names.count(name) > 1:
            raise UserError(f"{uri}: column {name!r} is there twice; keep one")
    return found


def source_row(
    key: str,
    values: dict[str, Any],
    column: str,
    wanted: WantedColumns,
    *,
    may_mark: bool = False,
) -> SourceRow:
    """Divide the values of a row into the prompt, the known columns and the other ones."""
    known: dict[str, Any] = {PROMPT_COLUMN: values[column]}
    other: dict[str, Any] = {}
    for name, value in values.items():
        if name == column or not wanted.includes(name):
            continue
        (known if name in wanted.known else other)[name] = value
    return SourceRow(key, known, other=other, may_mark=may_mark)


def extension(name: str) -> str:
    """Return the extension in lower case with its dot, "" without one."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def lines(file: SourceFile, *, ends: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line, cut at `MAX_LINE_BYTES`, without line ends or with."""
    with file.open() as opened:
        handle = _with_newlines(opened)
        for number in itertools.count(1):
            line = handle.readline(MAX_LINE_BYTES)
            if not line:
                return
            file.size.read_bytes += len(line)
            rest = line
            while len(rest) == MAX_LINE_BYTES and rest[-1:] != b"\n":
                rest = handle.readline(MAX_LINE_BYTES)
                file.size.read_bytes += len(rest)
            if number == 1:
                if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise UserError(f"{file.uri}: is UTF-16 text; save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line if ends else line.rstrip(b"\r\n")


def _with_newlines(handle: BinaryIO) -> BinaryIO:
    """Return a file with line feeds, also where its lines end in carriage returns alone."""
    start = handle.read(MAX_LINE_BYTES)
    handle.seek(0)
    if b"\r" not in start or b"\n" in start:
        return handle
    return io.BufferedReader(_CarriageReturns(handle))


class _CarriageReturns(io.RawIOBase):
    """A text file of an old Mac, with line feeds for its carriage returns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


def problem_row(key: str, line: bytes, problem: str) -> SourceRow:
    """Return the row of a line that cannot be read."""
    # Nobody meant this text as a prompt: the row's cells may hold URLs with credentials.
    text = redact(line[:MAX_LINE_BYTES].decode("utf-8", "replace"))
    return SourceRow(key, {PROMPT_COLUMN: text}, problem)


def too_long(line: bytes) -> str:
    """Say that a line was cut; "" if it was not."""
    if len(line) < MAX_LINE_BYTES - 2:
        return ""
    return f" (it is longer than {MAX_LINE_BYTES >> 20} MiB)"
