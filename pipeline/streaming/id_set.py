"""A growing set of sample ids that costs 12 to 25 bytes an id; a Python set of bytes takes 100."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.dataset.committed import Ids

FIRST_PLACES = 1 << 12
FULLEST = 0.8
"""Share of places that may be taken; at 100 million ids this still fits 2**27 places."""
MOVED_AT_ONCE = 1 << 18


class IdSet:
    """A hash table with linear probing whose places are two numpy columns.

    An id is a part of a hash already, so its first bytes say where it belongs. A place whose first
    bytes are zero is free; ids that begin with so many zeros are kept apart.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._high = np.zeros(FIRST_PLACES, np.uint64)
        self._low = np.zeros(FIRST_PLACES, np.uint16)
        self._taken = 0
        self._apart: set[int] = set()

    def __len__(self) -> int:
        return self._taken + len(self._apart)

    def find(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether the set holds each of some ids."""
        found = np.zeros(len(ids), np.bool_)
        rows, at = self._homes(ids)
        if len(rows) < len(ids):
            apart = np.flatnonzero(ids.high == 0)
            found[apart] = [low in self._apart for low in ids.low[apart].tolist()]
        while len(rows):
            held = self._high[at]
            same = self._same(held, at, ids, rows)
            found[rows[same]] = True
            on = (held != 0) & ~same
            rows, at = rows[on], self._next(at[on])
        return found

    def add(self, ids: Ids) -> None:
        """Add ids that differ from one another; it may hold some of them already."""
        while self._taken + len(ids) > FULLEST * len(self._high):
            self._grow()
        self._insert(ids)

    def _insert(self, ids: Ids) -> None:
        rows, at = self._homes(ids)
        if len(rows) < len(ids):
            self._apart.update(ids.low[ids.high == 0].tolist())
        while len(rows):
            free = self._high[at] == 0
            # Of several ids that find one place free the last gets it; the others go on.
            self._high[at[free]], self._low[at[free]] = ids.high[rows[free]], ids.low[rows[free]]
            same = self._same(self._high[at], at, ids, rows)
            self._taken += int(np.count_nonzero(same & free))
            rows, at = rows[~same], self._next(at[~same])

    def _grow(self) -> None:
        high, low = self._high, self._low
        self._high = np.zeros(2 * len(high), np.uint64)
        self._low = np.zeros(2 * len(low), np.uint16)
        self._taken = 0
        for start in range(0, len(high), MOVED_AT_ONCE):
            some = slice(start, start + MOVED_AT_ONCE)
            taken = high[some] != 0
            self._insert(Ids(high[some][taken], low[some][taken]))

    def _homes(self, ids: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows of the ids that are not kept apart, and the places where they belong."""
        rows = np.flatnonzero(ids.high)
        mask = np.uint64(len(self._high) - 1)
        return rows, (ids.high[rows] & mask).astype(np.intp)

    def _next(self, at: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        return (at + 1) & (len(self._high) - 1)

    def _same(
        self,
        held: npt.NDArray[np.uint64],
        at: npt.NDArray[np.intp],
        ids: Ids,
        rows: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.bool_]:
        """Whether places hold the ids of rows; `held` are the first bytes that they hold."""
        same = held == ids.high[rows]
        likely = np.flatnonzero(same)
        same[likely] = self._low[at[likely]] == ids.low[rows[likely]]
        return same
