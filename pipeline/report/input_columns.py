"""The values of the input's columns that rows keep (`source`), for columns of few values.

Rows come part by part and may be millions, so a column is given up as soon as it shows that it has
too many values; what is given up, and why, is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.requests.columns import cells_of

MOST_VALUES = 12
"""Different values of a column that a report is divided by."""

MOST_CHARS = 60
"""Longest value; a longer one is text, not a category."""

MOST_COLUMNS = 50
"""Columns that are looked at, the first ones that occur."""

Codes = npt.NDArray[np.int64]


class InputColumns:
    """Collects the columns of `source` cells, row by row.

    Attributes:
        rows: Rows so far.
        left_out: Columns that are given up, and why.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.left_out: dict[str, str] = {}
        self._values: dict[str, dict[str, int]] = {}
        self._codes: dict[str, bytearray] = {}

    def take(self, table: pa.Table) -> pa.Table:
        """Take the column `source` of further rows, and put `kept` in its place: its names."""
        names = pa.array(self.add(table["source"].to_pylist()), pa.string()).dictionary_encode()
        return table.drop_columns(["source"]).append_column("kept", names)

    def add(self, sources: Iterable[str | None]) -> list[str]:
        """Take the cells of further rows.

        Returns:
            The names of each row's columns as a JSON list, "" without any.
        """
        names = []
        for source in sources:
            cells = cells_of(source)
            self._take(cells)
            self.rows += 1
            names.append(json.dumps([*cells]) if cells else "")
        return names

    def _take(self, cells: Mapping[str, object]) -> None:
        for name, cell in cells.items():
            if name in self.left_out:
                continue
            text = cell if isinstance(cell, str) else json.dumps(cell)
            values = self._values.setdefault(name, {})
            code = values.setdefault(text, len(values) + 1)
            problem = ""
            if isinstance(cell, dict | list):
                problem = "holds lists or objects"
            elif len(text) > MOST_CHARS:
                problem = f"holds texts of more than {MOST_CHARS} characters: no categories"
            elif code > MOST_VALUES:
                problem = f"has more than {MOST_VALUES} values: too many for a table"
            elif len(self._values) > MOST_COLUMNS:
                problem = f"comes after the first {MOST_COLUMNS} columns"
            if problem:
                self.left_out[name] = problem
                del self._values[name]
                self._codes.pop(name, None)
                continue
            codes = self._codes.setdefault(name, bytearray())
            codes.extend(bytes(self.rows - len(codes)))
            codes.append(code)

    def columns(self) -> dict[str, tuple[Codes, list[str]]]:
        """The columns of few values: a code for each row, and the value of each code ("" of 0).

        Code 0 stands for a row without a value.
        """
        found = {}
        for name, codes in self._codes.items():
            whole = np.zeros(self.rows, np.int64)
            whole[: len(codes)] = np.frombuffer(bytes(codes), np.uint8)
            found[name] = (whole, ["", *self._values[name]])
        return found
