"""How much of an input is read before the first clip: enough to tell what the run will be like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UserError
from pipeline.requests.intake import CHUNK_ROWS, FILE_CHUNK_ROWS, Intake
from pipeline.requests.packing import FirstChoice
from pipeline.requests.sample_request import SampleRequest
from pipeline.streaming.row_sizes import SIZES, largest_of
from pipeline.wording import counted

HEAD_ROWS, HEAD_FILE_ROWS = 4 * CHUNK_ROWS, 8 * FILE_CHUNK_ROWS
"""Rows that are read before the first clip, and the same for rows that name files: a smaller input
is counted before it begins."""
HEAD_UNITS = 20_000
"""Requests after which fewer rows are enough: a row can stand for many."""
SEARCHED_ROWS = 1_000_000
"""Rows in which a column that the user named must occur."""


@dataclass(slots=True)
class HeadOfInput:
    """Decides after each chunk of rows whether enough of the input is read.

    Attributes:
        intake: Of the input.
        choice: Of the first clips, if the run chooses some.
        unmade: Contents of clips that an earlier run chose and did not make.
        whole: Whether all of the input is read in any case.
        cells: The different combinations of values in some columns of the whole input; None where
            only reading all of it would tell.
        largest: A request of the largest size of the input, where its rows set sizes.
        ended_early: Whether there may be more of it.
        why_whole: Why a large input is read to its end, "" while it need not be.
    """

    intake: Intake
    choice: FirstChoice | None = None
    unmade: frozenset[bytes] = frozenset()
    whole: bool = False
    cells: Callable[[Collection[str]], Iterable[Mapping[str, Any]] | None] = lambda names: None
    largest: SampleRequest | None = field(default=None, init=False)
    ended_early: bool = field(default=False, init=False)
    why_whole: str = field(default="", init=False)

    def is_enough(self, units: int) -> bool:
        """Whether the requests so far are enough; without any, there may be nothing to make.

        Args:
            units: How many there are, each with its control.

        Raises:
            UserError: No row holds a column that the user named.
        """
        intake = self.intake
        rows = HEAD_FILE_ROWS if intake.defaults.conditions else HEAD_ROWS
        read = intake.counts.read
        if self.whole or not units or (read < rows and units < HEAD_UNITS):
            return False
        if self.choice is not None and not self.choice.is_ready(self.unmade):
            return False
        if missing := intake.columns.missing():
            if read < SEARCHED_ROWS:
                return False
            raise UserError(
                "--columns: none of the first "
                f"{counted(read, 'row', grouped=True)} of the input has a column "
                f"{', '.join(missing)}"
            )
        self.whole = not self._knows_largest()
        self.ended_early = not self.whole
        return self.ended_early

    def _knows_largest(self) -> bool:
        """Whether the largest clip of the input is known: models are loaded for it."""
        intake = self.intake
        sizes = intake.columns.taken.keys() & set(SIZES)
        if not sizes or intake.largest is None:
            return True
        names = set(SIZES) & intake.columns.required or SIZES  # all, if the user named none
        cells = None if intake.limit or intake.defaults.conditions else self.cells(names)
        if cells is not None:
            self.largest = largest_of(cells, intake.largest, intake.defaults, intake.columns)
            return True
        self.why_whole = (
            f"The whole input is read before the first clip, because its rows set "
            f"{', '.join(sorted(sizes))}: models are loaded for the largest clip"
        )
        return False
