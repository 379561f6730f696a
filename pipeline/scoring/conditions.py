"""Conditions over rows and their scores, in SQL: what `--keep` takes.

They are the conditions of exports (`--where`), with each score under its own name besides. A score
that is missing is null, and a condition that needs it is then neither true nor false.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.dataset.schema import SCHEMA
from pipeline.errors import UserError

_SOURCE = "case when json_valid(source) then source::json end as source"
"""So that `source->>'name'` works in a condition, as in exports."""


class Condition:
    """A compiled condition; several threads may use it at once."""

    def __init__(self, text: str, scores: Sequence[str], flag: str = "--keep") -> None:
        """Check a condition.

        Args:
            text: SQL (DuckDB), such as `motion > 0.2 and black < 0.01`.
            scores: Names of the scores that rows can have.
            flag: The option that it comes from, for messages.

        Raises:
            UserError: It is no condition over these scores and the columns of a row.
        """
        self.text = text
        self._flag = flag
        own = [name for name in scores if name not in SCHEMA.names]
        if len(own) < len(scores):
            taken = ", ".join(sorted(set(scores) - set(own)))
            raise UserError(f"{flag}: a score has the name of a column: {taken}")
        listed = "".join(f", map_from_entries(scores)['{name}'] as \"{name}\"" for name in own)
        self._query = f"select ({text}) from (select * replace ({_SOURCE}){listed} from rows)"  # noqa: S608
        self._lock = threading.Lock()
        self._database = duckdb.connect(config={"threads": 1})
        self._database.execute("set enable_external_access = false; set lock_configuration = true")
        if any(char in text for char in ";") or "--" in text:
            raise UserError(f"{flag} {text}: give one condition, without ; and comments")
        kind = self._relation(SCHEMA.empty_table()).types[0]
        if str(kind) not in ("BOOLEAN", '"NULL"'):
            raise UserError(
                f"{flag} {text}: gives a {kind}; it should be true or false, "
                "such as motion > 0.2 and black < 0.01"
            )

    def of_table(self, rows: pa.Table) -> list[bool | None]:
        """Judge rows of `SCHEMA`, in order."""
        with self._lock:
            return [value for (value,) in self._relation(rows).fetchall()]

    def of_row(self, row: Mapping[str, Any]) -> bool | None:
        """Judge one row, given as plain values."""
        return self.of_table(pa.Table.from_pylist([dict(row)], schema=SCHEMA))[0]

    def _relation(self, rows: pa.Table) -> duckdb.DuckDBPyRelation:
        try:
            self._database.register("rows", rows)
            return self._database.sql(self._query)
        except duckdb.Error as error:
            text = str(error).split("\n")[0]
            raise UserError(f"{self._flag} {self.text}: {text}") from None
