"""Rows of a Parquet file as its columns: rows that nobody looks at are never made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import SourceFile, SourceRow, WantedColumns, source_row


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Some rows of one file, in order.

    Attributes:
        file: Their file.
        before: Rows of the file before them.
        cells: The columns that are read, those of its folders not among them.
        column: Which of them holds the prompts.
        wanted: What is read.
    """

    file: SourceFile
    before: int
    cells: pa.RecordBatch
    column: str
    wanted: WantedColumns

    def __len__(self) -> int:
        return int(self.cells.num_rows)

    def __iter__(self) -> Iterator[SourceRow]:
        return self._rows(range(len(self)), self.cells)

    def rows(self, places: npt.NDArray[np.intp]) -> list[SourceRow]:
        """The rows at some places of the batch, in their order."""
        if len(places) == len(self):
            return list(self)
        try:
            cells = self.cells.take(pa.array(places))
        except pa.ArrowNotImplementedError:  # a column of a rare type
            rows = list(self)
            return [rows[place] for place in places.tolist()]
        return list(self._rows(places.tolist(), cells))

    def first(self, count: int) -> RowBatch:
        """The first rows, as many as there are."""
        return dataclasses.replace(self, cells=self.cells.slice(0, count))

    def cut(self, size: int) -> Iterator[RowBatch]:
        """The same rows in batches of up to `size`."""
        for start in range(0, len(self), size):
            cells = self.cells.slice(start, size)
            yield dataclasses.replace(self, before=self.before + start, cells=cells)

    @property
    def prompts(self) -> pa.Array:
        """The cells of the prompts."""
        return self.columns[self.column]

    @property
    def others(self) -> dict[str, pa.Array]:
        """The cells of the other columns, those that folders stand for among them."""
        found = {
            name: pa.array([value] * len(self))
            for name, value in self.file.partitions.items()
            if self.wanted.includes(name)
        }
        found |= self.columns
        del found[self.column]
        return found

    @property
    def columns(self) -> dict[str, pa.Array]:
        """The cells of each column of the file that is read."""
        return dict(zip(self.cells.schema.names, self.cells.columns, strict=True))

    def _rows(self, places: Iterable[int], cells: pa.RecordBatch) -> Iterator[SourceRow]:
        for place, values in zip(places, self._values(cells), strict=True):
            key = f"{self.file.name}:{self.before + place + 1}"
            if values:
                values = {**self.file.partitions, **values}
                yield source_row(key, values, self.column, self.wanted, may_mark=True)
            else:
                yield SourceRow(key, {}, "holds text that is not valid UTF-8")

    def _values(self, cells: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Yield the rows of columns as dictionaries; an empty one where text is not UTF-8.

        Columns that hold such text are read row by row, so that the other rows keep their values.
        """
        try:
            columns = [each.to_pylist() for each in cells.columns]
        except UnicodeDecodeError:
            if cells.num_rows == 1:
                yield {}
                return
            for i in range(cells.num_rows):
                yield from self._values(cells.slice(i, 1))
            return
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise unreadable(self.file, error) from None
        for values in zip(*columns, strict=True):
            yield dict(zip(cells.schema.names, values, strict=True))


def unreadable(file: SourceFile, error: Exception) -> UserError:
    """What is said of a file that Arrow cannot read."""
    text = " ".join(str(error).split())[:200]
    return UserError(f"{file.uri}: not a Parquet file, or a damaged one: {text}")
