"""Which columns of the input decide about its clips, and what becomes of the other ones.

Prompt data sets carry columns that describe a source video (`fps`, `width`, `num_frames`) under the
names of our settings. A setting that the user gave explicitly therefore wins over the column of
that name, unless the user named the column in `--columns`. All other columns are kept as JSON in
the `source` column of the output row. What was taken, overruled, kept or left out is counted.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.prompts.column_names import close_name
from pipeline.prompts.condition_columns import CONDITION_COLUMNS
from pipeline.prompts.prompt_file import FALLBACK_COLUMNS, SourceRow
from pipeline.redaction import redact
from pipeline.requests.from_row import OVERRIDES
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.config.run_config import RunConfig

SETTINGS = OVERRIDES | {"seed"}
"""Columns that set something of a clip, apart from the prompt and files."""

MAX_SOURCE_CHARS = 16_384
"""Longest `source` of a row; the longest columns are left out until the rest fits."""

SHOWN = 30
"""Most columns that a message names."""


@dataclass(slots=True)
class ColumnUse:
    """Decides cell by cell what an input row may set, and counts it.

    Attributes:
        explicit: Settings that the user gave: they win over columns of their names.
        required: Columns that the user named; each must occur in the input.
        taken: Rows that set something, by column.
        overruled: Rows whose cell gave way to an explicit setting, by column.
        kept: Rows that hold another column, by column.
        left_out: Rows whose cell in another column is not kept, by column.
        seen: Those of `required` that occurred.
        others: Other columns with a value in some row, of finished clips too.
    """

    explicit: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    taken: Counter[str] = field(default_factory=Counter)
    overruled: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    _noted: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def of(cls, config: RunConfig) -> ColumnUse:
        """Take the explicit settings and the named columns of a run."""
        named = frozenset(config.columns)
        given = {name for name in SETTINGS if getattr(config.sampling, name) is not None}
        texts = {config.prompt_column, *FALLBACK_COLUMNS}  # read in any case, as the prompt
        return cls(frozenset(given - named), named - texts)

    def apply(self, row: SourceRow) -> SourceRow:
        """Return the row with only the values that decide about its clips; count its columns."""
        if row.problem or (len(row.values) == 1 and not row.other):
            return row
        if row.other.keys() - self._noted:  # of few rows
            self.note(name for name, value in row.other.items() if value is not None)
        given = {name: 1 for name in SETTINGS & row.values.keys() if row.values[name] is not None}
        self.count(row.values.keys() | row.other.keys(), given)
        return self.without_overruled(row)

    def note(self, names: Iterable[str]) -> None:
        """Note other columns that have a value in some row."""
        new = [name for name in names if name not in self._noted]
        self.others.extend(new)
        self._noted.update(new)

    def count(self, names: AbstractSet[str], given: Mapping[str, int]) -> None:
        """Count the columns of rows.

        Args:
            names: Their columns.
            given: In how many of them each setting has a value.
        """
        self.seen |= self.required & names
        for name, rows in given.items():
            (self.overruled if name in self.explicit else self.taken)[name] += rows

    def without_overruled(self, row: SourceRow) -> SourceRow:
        """Return the row with its overruled values among its other columns."""
        overruled = {
            name: value
            for name, value in row.values.items()
            if name in self.explicit and value is not None
        }
        if not overruled:
            return row
        values = {name: value for name, value in row.values.items() if name not in overruled}
        return dataclasses.replace(row, values=values, other=row.other | overruled)

    def source(self, row: SourceRow) -> str:
        """Return the JSON of a row's other columns, "" without any; count what is kept."""
        if not row.other:
            return ""
        text, left_out = source_json(row.other)
        self.left_out.update(left_out)
        self.kept.update(
            name
            for name, value in row.other.items()
            if value is not None and name not in left_out and name not in self.explicit
        )
        return text

    def missing(self) -> list[str]:
        """Columns that the user named and that no row of the input holds."""
        return sorted(self.required - self.seen)

    def lines(self) -> Iterator[str]:
        """Say what the input's columns did, one line each."""
        for name, rows in sorted(self.overruled.items()):
            flag = f"--sampling.{name.replace('_', '-')}"
            yield (
                f"{flag} wins over the column {name} of {counted(rows, 'row', grouped=True)}; "
                f"name the column in --columns to use it instead"
            )
        if self.taken:
            taken = ", ".join(map(_column, sorted(self.taken.items())))
            yield (
                f"taken from the input: {taken}; a --sampling flag wins over its column, and "
                "--columns prompt,... reads only the columns that it names"
            )
        if unread := {name: n for name, n in self.kept.items() if name in CONDITION_COLUMNS}:
            columns = ", ".join(map(_column, sorted(unread.items())))
            yield f"not read as files, for this model takes none there: {columns}"
        if slips := {name: near for name in self.kept if (near := close_name(name, SETTINGS))}:
            pairs = ", ".join(f"{name} ({near}?)" for name, near in list(slips.items())[:SHOWN])
            yield f"columns that are not settings but are written much like one: {pairs}"
        if self.kept:
            yield f"kept in the column source: {_named(self.kept)}"
        if self.left_out:
            dropped = ", ".join(map(_column, self.left_out.most_common(SHOWN)))
            yield (
                f"not kept in the column source, for they are binary or more than "
                f"{MAX_SOURCE_CHARS:,} characters together: {dropped}"
            )


def source_json(other: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Write other columns as one JSON object, in their order.

    Returns:
        The JSON, "" if nothing is left; and the names of the columns that are left out: binary
        ones, and the longest ones if all are longer than `MAX_SOURCE_CHARS`. Empty cells are left
        out too and not named.
    """
    cells: dict[str, str] = {}
    left_out = []
    for name, value in other.items():
        if value is None:
            continue
        try:
            text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
            cells[name] = f"{json.dumps(name, ensure_ascii=False)}:{text}"
        except (TypeError, ValueError, RecursionError):
            left_out.append(name)
    while sum(map(len, cells.values())) + len(cells) + 1 > MAX_SOURCE_CHARS:
        longest = max(cells, key=lambda name: len(cells[name]))
        left_out.append(longest)
        del cells[longest]
    text = "{" + ",".join(cells.values()) + "}" if cells else ""
    return text.encode("utf-8", "replace").decode(), left_out


def cell_json(source: str | None, name: str) -> str:
    """The value of a column in a `source` cell as canonical JSON; "" without one."""
    cells = cells_of(source)
    return json.dumps(cells[name], sort_keys=True) if name in cells else ""


def cells_of(source: str | None) -> dict[str, Any]:
    """The columns of a `source` cell as `source_json` wrote it; none for any other text."""
    try:
        found = json.loads(source or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without credentials in URLs.

    Raises:
        TypeError: The value is binary or holds binary values.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return redact(value) if "://" in value else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("binary")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _column(column: tuple[str, int]) -> str:
    name, rows = column
    return f"{name} ({counted(rows, 'row', grouped=True)})"


def _named(names: Mapping[str, int]) -> str:
    shown = list(names)[:SHOWN]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown) + more
