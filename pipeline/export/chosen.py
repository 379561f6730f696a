"""What an export chose, and how many of its clips lack a value in a column of the input."""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from pipeline.wording import counted

_ASKED = re.compile(r"\bsource\"?\s*(?:->>?|,)\s*'(?:\$\.)?((?:[^']|'')+)'", re.IGNORECASE)
"""A column of the input in an SQL expression: `source->>'name'`, `json_extract(source, 'name')`."""


@dataclass(frozen=True, slots=True)
class LackingClips:
    """Clips without a value in what a flag asks for.

    Attributes:
        flag: The flag.
        column: What it asks for: a column of the input, or an SQL value.
        clips: How many have no value there.
        of: Of how many.
    """

    flag: str
    column: str
    clips: int
    of: int

    def counts(self) -> str:
        """Say how many."""
        clips = counted(self.of, "clip", grouped=True)
        has = "has" if self.clips == 1 else "have"
        return f"{self.clips:,} of {clips} {has} no value in {self.column}"

    def line(self) -> str:
        """Say how many, and what becomes of them, in one line."""
        said = f"{self.flag}: {self.counts()}"
        if self.flag == "--stratify-by":
            return f"{said}, and are divided as a value of their own"
        if self.flag == "--split-by":
            return f"{said}, and are split by their prompts"
        return f"{said} (the input had no such column then, or an empty cell)"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a spool keeps for an export.

    Attributes:
        clips: Rows that are exported.
        without: Rows that are left out because they lack what the format needs.
        texts: Number of different texts that decide the splits of these rows.
        lacking: Clips without a value in a column that a flag asks for.
    """

    clips: int
    without: int
    texts: int
    lacking: tuple[LackingClips, ...] = ()


def lacking_clips(
    database: duckdb.DuckDBPyConnection, flag: str, columns: list[str], rows: str
) -> list[LackingClips]:
    """Count the rows without a value in columns of the input; none for those that all rows have.

    Args:
        database: Holds the rows.
        flag: The flag that asks for these columns.
        columns: Their names.
        rows: SQL of ours after `from`.
    """
    found = []
    for name in columns:
        has = "case when json_valid(source) then list_contains(json_keys(source), $name) end"
        query = f"select count(*), count(*) filter (not coalesce({has}, false)) from {rows}"  # noqa: S608
        ((of, clips),) = database.execute(query, {"name": name}).fetchall()
        if clips:
            found.append(LackingClips(flag, name, clips, of))
    return found


def asked_inputs(expression: str) -> list[str]:
    """The columns of the input that an SQL expression takes from `source`."""
    names = (name.replace("''", "'") for name in _ASKED.findall(expression))
    return list(dict.fromkeys(names))
