"""Expressions over rows and their scores, in SQL: conditions (`--keep`) and ranks (`--select-by`).

They know the columns of exports' conditions (`--where`), and each score under its own name besides.
A score that is missing is null, and what needs it is null too: a condition is then neither true nor
false, and a rank is unknown.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import duckdb
import pyarrow as pa

from pipeline.dataset.schema import SCHEMA
from pipeline.errors import UserError
from pipeline.scoring.condition_terms import asked_scores, problem_of, refuse_changing

SOURCE_JSON = "case when json_valid(source) then source::json end as source"
"""So that `source->>'name'` works in an expression, here and in exports."""


def score_columns(names: Iterable[str]) -> str:
    """SQL that gives each score a column of its own, to follow the columns of rows."""
    return "".join(f", map_from_entries(scores)['{name}'] as \"{name}\"" for name in names)


_SEVERAL_ROWS = re.compile(r"\bover\s*\(|\(\s*select\b", re.IGNORECASE)
"""Window functions and subqueries: their value depends on which rows are judged together."""


class RowExpression:
    """A compiled expression; several threads may use it at once."""

    flag: ClassVar[str]
    wanted: ClassVar[str]
    result_types: ClassVar[tuple[str, ...]]

    def __init__(self, text: str, scores: Sequence[str]) -> None:
        """Check an expression.

        Args:
            text: SQL (DuckDB).
            scores: Names of the scores that rows can have.

        Raises:
            UserError: It is no such expression over these scores and the columns of a row.
        """
        self.text = text
        self._scores = tuple(scores)
        own = [name for name in scores if name not in SCHEMA.names]
        if len(own) < len(scores):
            taken = ", ".join(sorted(set(scores) - set(own)))
            raise UserError(f"{self.flag}: a score has the name of a column: {taken}")
        listed = score_columns(own)
        self._query = f"select ({text}) from (select * replace ({SOURCE_JSON}){listed} from rows)"  # noqa: S608
        self._lock = threading.Lock()
        self._database = duckdb.connect(config={"threads": 1})
        self._database.execute("set enable_external_access = false; set lock_configuration = true")
        if ";" in text or "--" in text:
            raise UserError(f"{self.flag} {text}: give one expression, without ; and comments")
        refuse_changing(text, self.flag)
        empty = self._relation(SCHEMA.empty_table())
        if _SEVERAL_ROWS.search(text) or empty.fetchall():
            raise UserError(
                f"{self.flag} {text}: looks at several rows; it should give each row a value by "
                "that row alone"
            )
        kind = str(empty.types[0])
        if not kind.startswith((*self.result_types, '"NULL"')):
            raise UserError(f"{self.flag} {text}: gives a {kind}; it should be {self.wanted}")

    def values(self, rows: pa.Table) -> list[Any]:
        """The value of each row of `SCHEMA`, in order."""
        with self._lock:
            return [value for (value,) in self._relation(rows).fetchall()]

    def _relation(self, rows: pa.Table) -> duckdb.DuckDBPyRelation:
        try:
            self._database.register("rows", rows)
            return self._database.sql(self._query)
        except duckdb.Error as error:
            why_none = ", because no scorer is on (--scorers)"
            problem = problem_of(error, self._scores, why_none)
            raise UserError(f"{self.flag} {self.text}: {problem}") from None


class Condition(RowExpression):
    """What a good clip meets, such as `motion > 0.2 and black < 0.01`."""

    flag = "--keep"
    wanted = "true or false, such as motion > 0.2 and black < 0.01"
    result_types = ("BOOLEAN",)

    def of_table(self, rows: pa.Table) -> list[bool | None]:
        """Judge rows of `SCHEMA`, in order."""
        return self.values(rows)

    def of_row(self, row: Mapping[str, Any]) -> bool | None:
        """Judge one row, given as plain values."""
        return self.of_table(_table_of(row))[0]


class RowRank(RowExpression):
    """What tells better drafts from worse ones, such as `sharpness - 5 * flicker`.

    Attributes:
        asked: Names of the scores that it needs.
    """

    flag = "--select-by"
    wanted = "a number, such as sharpness - 5 * flicker"
    result_types = ("DOUBLE", "FLOAT", "DECIMAL", "HUGEINT", "BIGINT", "INTEGER", "BOOLEAN")

    def __init__(self, text: str, scores: Sequence[str]) -> None:
        """Check an expression; see `RowExpression`."""
        super().__init__(text, scores)
        self.asked = frozenset(asked_scores(text, scores, self.flag))

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether a row was scored for this rank; a score that its scorer did not give counts."""
        return self.asked <= {each["name"] for each in row["scores"] or ()}

    def of_row(self, row: Mapping[str, Any]) -> float | None:
        """The rank of one row, given as plain values; higher is better."""
        (value,) = self.values(_table_of(row))
        return None if value is None else float(value)


def _table_of(row: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict(row)], schema=SCHEMA)
