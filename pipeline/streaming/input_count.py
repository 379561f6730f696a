"""Follows the count of an input that goes on while clips are made: totals and rejected rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.dataset.schema import SCHEMA, rejected_row, to_table
from pipeline.pending_input import PendingInput
from pipeline.streaming.expected import Expected, expected
from pipeline.streaming.request_feed import RequestFeed


@dataclass(slots=True)
class InputCount:
    """What the driver knows of its input, exact once all of it is read.

    Attributes:
        pending: What of it is left to make.
        model: Name of the model, for rejected rows.
        run_id: Of the run.
        on_end: Called once when no more is read, with the error that ended it, if one did; not
            where all was read before the first clip.
        feed: Reads what was not read before the first clip; None where nothing is left.
    """

    pending: PendingInput
    model: str
    run_id: str
    on_end: Callable[[Exception | None], None] = lambda error: None
    feed: RequestFeed | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.pending.units is not None:
            self.feed = RequestFeed(self.pending.rest())

    def expected(self) -> Expected:
        """What the run will make, as far as that is known now."""
        is_read = self.feed is None or (self.feed.is_read and self.feed.error is None)
        return expected(self.pending.intake, self.pending.size, is_read=is_read)

    def with_rejected(self, made: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield tables of rows, and between them the rejected rows that were found meanwhile."""
        for table in made:
            yield table
            if (rejected := self.update()).num_rows:
                yield rejected
        yield self.update()

    def update(self) -> pa.Table:
        """Return the rejected rows since the last call as output rows; tell the end of the count.

        The rows are taken from the list that the reading thread appends to.
        """
        rejected = self.pending.intake.rejected
        rows = rejected[:]
        del rejected[: len(rows)]
        if self.feed is not None and self.feed.is_read and not self._told:
            self._told = True
            self.on_end(self.feed.error)
        if not rows:
            return SCHEMA.empty_table()
        return to_table(
            [
                rejected_row(
                    row.sample_id,
                    row.caption,
                    row.source_key,
                    self.model,
                    self.run_id,
                    row.message,
                    row.source,
                )
                for row in rows
            ]
        )
