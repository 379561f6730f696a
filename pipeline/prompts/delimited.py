r"""Finds the records of CSV and TSV text, where quotes are not always what the standard says.

A record that cannot be read costs one line and never the lines after it: an open quote would
otherwise swallow good rows. For the line that a record begins with, these readings are tried:

- CSV: the line alone by RFC 4180; the line alone with quotes escaped by a backslash (Spark's way);
  both again over further lines, for text with line breaks.
- TSV: a quote is text unless it encloses a whole cell. A cell goes on in further lines only if
  those that it fills do not have the header's number of cells themselves.

The first reading that gives the header's number of cells counts.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.wording import counted

MAX_RECORD_LINES = 200
MAX_RECORD_CHARS = 1 << 16
"""Longest record over several lines: an open quote is not searched through the whole file."""

_BACKSLASHED_CELL = re.compile(r'"((?:[^"\\]|\\.)*)"(?=,|$)|([^",\r\n]*)(?=,|$)', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_TSV_CELL = re.compile(r'"((?:[^"]|"")*)"(?=\t|$)|([^\t]*)')


@dataclass(slots=True)
class Records:
    """Reads records from lines.

    Attributes:
        lines: The lines with their ends.
        tab: Whether cells are separated by tabs.
        width: Number of cells of a record; 0 until the header is read.
        backslashed: Records whose quotes are escaped by backslashes, so far.
    """

    lines: Iterator[str]
    tab: bool
    width: int = 0
    backslashed: int = 0
    _ahead: deque[str] = field(default_factory=deque, init=False, repr=False)

    def __iter__(self) -> Iterator[tuple[list[str], str, str]]:
        """Yield cells, raw text and problem of each record; a record with a problem is one line."""
        while (line := self._line(0)) is not None:
            cells, count = self._record(line)
            if cells is not None:
                raw = "".join(self._ahead.popleft() for _ in range(count))
                yield cells, raw, ""
                continue
            self._ahead.popleft()
            yield [], line, self._problem(line)

    def _record(self, line: str) -> tuple[list[str] | None, int]:
        """The cells of the record that begins with a line, and its number of lines."""
        if not line.strip("\r\n"):
            return [], 1
        one = self._cells(line)
        opens = self.tab and self.width and one is not None and one[-1][:1] == '"'
        if '"' not in line or (one is not None and not opens):
            return one, 1
        text = line
        for count in range(2, MAX_RECORD_LINES + 1):
            further = self._line(count - 1)
            if further is None or len(text) + len(further) > MAX_RECORD_CHARS:
                break
            full = self.tab and self._cells(further) is not None
            if full and opens:
                break
            text += further
            if '"' in further and (cells := self._cells(text)) is not None:
                return cells, count
            if full:
                break
        return one, 1

    def _cells(self, text: str) -> list[str] | None:
        """The cells of a whole record; None if it is none."""
        if self.tab:
            return self._fitting(_tsv(text, self.width))
        cells = self._fitting(_csv(text))
        if cells is None and '\\"' in text:
            cells = self._fitting(_backslashed(text))
            self.backslashed += cells is not None
        return cells

    def _fitting(self, cells: list[str] | None) -> list[str] | None:
        return None if cells is None or (self.width and len(cells) != self.width) else cells

    def _problem(self, line: str) -> str:
        cells = _tsv(line, self.width) if self.tab else _csv(line)
        if cells is None:
            return (
                "the row is not valid CSV: a quote is not closed, or text stands beside it; put "
                'quotes round the whole cell and write "" for a quote in it'
            )
        return (
            f"has {counted(len(cells), 'cell')} where the header has {self.width}: "
            f"put quotes round text that holds a {'tab' if self.tab else 'comma'}"
        )

    def _line(self, at: int) -> str | None:
        while len(self._ahead) <= at:
            line = next(self.lines, None)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[at]


def _csv(text: str) -> list[str] | None:
    """The one record of a text by RFC 4180, None if it is not exactly one."""
    try:
        found = list(csv.reader(io.StringIO(text, newline="\n"), strict=True))
    except csv.Error:
        return None
    return found[0] if len(found) == 1 else None


def _backslashed(text: str) -> list[str] | None:
    """The one record of a text whose quotes are escaped by backslashes, None if it is none."""
    text = text.rstrip("\r\n")
    cells = []
    at = 0
    while True:
        match = _BACKSLASHED_CELL.match(text, at)
        if match is None:
            return None
        cells.append(match[2] if match[1] is None else _ESCAPED.sub(r"\1", match[1]))
        if match.end() == len(text):
            return cells
        at = match.end() + 1


def _tsv(text: str, width: int) -> list[str]:
    """The cells of a line; quotes that enclose a whole cell may also enclose tabs."""
    text = text.rstrip("\r\n")
    quoted = []
    at = 0
    while at <= len(text):
        match = _TSV_CELL.match(text, at)
        if match is None:  # cannot be: the second alternative matches anything
            break
        quoted.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end() + 1
    if len(quoted) == width or "\n" in text or "\r" in text:
        return quoted
    return [_unquoted(cell) for cell in text.split("\t")]


def _unquoted(cell: str) -> str:
    match = _TSV_CELL.fullmatch(cell)
    return cell if match is None or match[1] is None else match[1].replace('""', '"')
