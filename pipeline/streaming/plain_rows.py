"""Finds the ids of plain rows: those that set nothing of a clip but its prompt and its seed.

A resumed run needs the id of every row of its input, and nearly all of their clips are made
already. Of a plain row the id follows from two cells, so none of its other values is looked at,
and the row itself is made only if there is something to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset.committed import Ids
from pipeline.errors import RowRejectedError
from pipeline.prompts.prompt_file import KNOWN_COLUMNS, PROMPT_COLUMN, SourceRow
from pipeline.prompts.row_batch import RowBatch
from pipeline.requests.columns import ColumnUse
from pipeline.requests.controls import digest_of_content, is_chosen
from pipeline.requests.lazy_request import LazyRequest, LazyRequests
from pipeline.requests.markers import MARKERS
from pipeline.requests.row_values import MAX_PROMPT_CHARS, text
from pipeline.requests.seeds import MAX_SEED


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The plain rows of a batch.

    Attributes:
        places: Their places in it, ascending.
        copies: Clips of each.
        prompts: Of each row.
        ids: Binary ids of all of their clips, in order.
        seeds: Of all of their clips.
    """

    places: npt.NDArray[np.intp]
    copies: int
    prompts: Sequence[str]
    ids: Sequence[bytes]
    seeds: Sequence[int]

    def request(self, number: int, requests: LazyRequests) -> LazyRequest:
        """The request of the clip with a number."""
        prompt = self.prompts[number // self.copies]
        return requests.plain(self.ids[number], prompt, self.seeds[number])

    def have_controls(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Which of the clips have a control.

        Args:
            fraction: Share of all clips that have one.
        """
        if not fraction:
            return np.zeros(len(self.ids), np.bool_)
        return np.array(
            [
                is_chosen(
                    digest_of_content(self.prompts[number // self.copies], "", seed), fraction
                )
                for number, seed in enumerate(self.seeds)
            ],
            np.bool_,
        )


@dataclass(frozen=True, slots=True)
class ReadRows:
    """Rows that are made already, with only the values that may set something."""

    made: Sequence[SourceRow]

    def __len__(self) -> int:
        return len(self.made)

    def rows(self, places: npt.NDArray[np.intp]) -> list[SourceRow]:
        """The rows at some places, in their order."""
        return [self.made[place] for place in places.tolist()]


@dataclass(frozen=True, slots=True)
class BatchSamples:
    """All clips of a batch in the order of its rows: of plain rows, and of others.

    Attributes:
        batch: The rows.
        plain: The plain ones.
        odd: The clips of the others, each with the place of its row.
        places: The place of the row of each clip, first those of the plain rows.
        order: Sorts the clips by their rows.
    """

    batch: RowBatch | ReadRows
    plain: PlainRows
    odd: Sequence[tuple[int, SourceRow, LazyRequest]]
    places: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]

    @classmethod
    def of(
        cls,
        batch: RowBatch | ReadRows,
        plain: PlainRows,
        read: Callable[[list[SourceRow]], Iterable[tuple[SourceRow, list[LazyRequest]]]],
    ) -> BatchSamples:
        """Read the rows that are not plain.

        Args:
            batch: The rows.
            plain: The plain ones.
            read: Returns for each of some rows what they stand for, and their clips.
        """
        others = np.delete(np.arange(len(batch)), plain.places)
        rows = read(batch.rows(others)) if len(others) else ()
        found = zip(others.tolist(), rows, strict=True)
        odd = [(place, row, each) for place, (row, made) in found for each in made]
        own = np.repeat(plain.places, plain.copies)
        places = np.append(own, np.array([place for place, _, _ in odd], np.intp))
        return cls(batch, plain, odd, places, np.argsort(places, kind="stable"))

    @property
    def is_odd(self) -> npt.NDArray[np.bool_]:
        """Which clips are those of other than plain rows."""
        return self.order >= len(self.plain.ids)

    def ids(self) -> Ids:
        """The ids of all clips."""
        ids = [*self.plain.ids, *(request.sample_id for _, _, request in self.odd)]
        return Ids.of(ids).take(self.order)

    def have_controls(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Which clips of plain rows have a control.

        Args:
            fraction: Share of all clips that have one.
        """
        of_plain = self.plain.have_controls(fraction)
        return np.append(of_plain, np.zeros(len(self.odd), np.bool_))[self.order]

    def take(
        self, which: npt.NDArray[np.bool_], columns: ColumnUse, requests: LazyRequests
    ) -> Iterator[tuple[SourceRow, LazyRequest]]:
        """Yield the row and the request of some clips, in their order.

        Args:
            which: A mask.
            columns: Says which columns set something.
            requests: Knows the requests of plain rows.
        """
        numbers, plain = self.order[which], len(self.plain.ids)
        places = np.unique(self.places[numbers[numbers < plain]])
        read = self.batch.rows(places) if len(places) else []
        rows = dict(zip(places.tolist(), map(columns.without_overruled, read), strict=True))
        for number in numbers.tolist():
            if number < plain:
                yield rows[int(self.places[number])], self.plain.request(number, requests)
            else:
                yield self.odd[number - plain][1:]


def plain_rows(
    batch: RowBatch, requests: LazyRequests, columns: ColumnUse, copies: int
) -> PlainRows | None:
    """Find the plain rows of a batch, and count their columns.

    Args:
        batch: Rows of an input.
        requests: Knows the ids.
        columns: Says which columns set something.
        copies: Clips of each row.

    Returns:
        The rows; None where the batch has to be read row by row.
    """
    cells = batch.prompts
    is_text = pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
    if not is_text or not requests.makes_plain:
        return None
    try:
        batch.cells.validate(full=True)  # it holds no text that is not UTF-8
    except pa.ArrowInvalid:
        return None
    texts = cells.to_pylist()
    is_plain = np.array(
        [
            bool(prompt)
            and not prompt.isspace()
            and len(prompt) <= MAX_PROMPT_CHARS
            and "\0" not in prompt
            and prompt not in MARKERS
            for prompt in texts
        ],
        np.bool_,
    )
    seeds: list[int | None] = [None] * len(texts)
    given: dict[str, npt.NDArray[np.bool_]] = {}
    others = batch.others
    for name in others.keys() & KNOWN_COLUMNS:
        column = others[name]
        is_given = np.asarray(column.is_valid())
        is_whole = pa.types.is_integer(column.type)
        if is_whole and name in columns.explicit:
            given[name] = is_given
        elif is_whole and name == "seed":
            given[name] = is_given
            is_plain &= np.asarray(column.fill_null(0)) >= 0  # no integer is above MAX_SEED
            seeds = column.to_pylist()
        else:
            is_plain &= ~is_given
    places = np.flatnonzero(is_plain)
    counts = {name: int(np.count_nonzero(is_given[places])) for name, is_given in given.items()}
    if len(places):
        names = others.keys() | {PROMPT_COLUMN}
        columns.count(names, {name: rows for name, rows in counts.items() if rows})
        columns.note(
            name
            for name, column in others.items()
            if name not in KNOWN_COLUMNS and np.asarray(column.is_valid())[places].any()
        )
    if len(places) < len(texts):
        texts = [texts[place] for place in places.tolist()]
        seeds = [seeds[place] for place in places.tolist()]
    return PlainRows(places, copies, texts, *requests.plain_ids(texts, seeds, copies))


def plain_among(batch: ReadRows, requests: LazyRequests, copies: int) -> PlainRows:
    """Find the plain ones of rows that are made; their columns are counted already.

    Args:
        batch: The rows.
        requests: Knows the ids.
        copies: Clips of each row.
    """
    if not requests.makes_plain:
        return no_plain(copies)
    places = np.flatnonzero(np.array([_is_plain(row) for row in batch.made], np.bool_))
    rows = batch.rows(places)
    prompts = [row.values[PROMPT_COLUMN] for row in rows]
    seeds = [row.values.get("seed") for row in rows]
    return PlainRows(places, copies, prompts, *requests.plain_ids(prompts, seeds, copies))


def no_plain(copies: int) -> PlainRows:
    """No row at all."""
    return PlainRows(np.empty(0, np.intp), copies, (), (), ())


def _is_plain(row: SourceRow) -> bool:
    values = row.values
    if row.problem or any(
        value is not None for name, value in values.items() if name not in (PROMPT_COLUMN, "seed")
    ):
        return False
    prompt, seed = values.get(PROMPT_COLUMN), values.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed <= MAX_SEED):
        return False
    try:
        return text(prompt, PROMPT_COLUMN, required=True) is prompt
    except RowRejectedError:
        return False
