"""How much of an input is read before the first clip: enough to tell what the run will be like."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.errors import UserError
from pipeline.requests.intake import CHUNK_ROWS, FILE_CHUNK_ROWS, Intake
from pipeline.requests.packing import FirstChoice

HEAD_ROWS, HEAD_FILE_ROWS = 4 * CHUNK_ROWS, 8 * FILE_CHUNK_ROWS
"""Rows that are read before the first clip, and the same for rows that name files: a smaller input
is counted before it begins."""
HEAD_UNITS = 20_000
"""Requests after which fewer rows are enough: a row can stand for many."""
SEARCHED_ROWS = 1_000_000
"""Rows in which a column that the user named must occur."""

SIZES = frozenset({"width", "height", "num_frames"})
"""Columns by which one row needs more memory than another."""


@dataclass(slots=True)
class HeadOfInput:
    """Decides after each request whether enough of the input is read.

    Attributes:
        intake: Of the input.
        choice: Of the first clips, if the run chooses some.
        unmade: Contents of clips that an earlier run chose and did not make.
        whole: Whether all of the input is read in any case.
        ended_early: Whether there may be more of it.
        why_whole: Why a large input is read to its end, "" while it need not be.
    """

    intake: Intake
    choice: FirstChoice | None = None
    unmade: frozenset[bytes] = frozenset()
    whole: bool = False
    ended_early: bool = field(default=False, init=False)
    why_whole: str = field(default="", init=False)

    def is_enough(self, units: int) -> bool:
        """Whether the requests so far are enough.

        Args:
            units: How many there are, each with its control.

        Raises:
            UserError: No row holds a column that the user named.
        """
        intake = self.intake
        rows = HEAD_FILE_ROWS if intake.defaults.conditions else HEAD_ROWS
        read = intake.counts.read
        if self.whole or (read < rows and units < HEAD_UNITS):
            return False
        if self.choice is not None and not self.choice.is_ready(self.unmade):
            return False
        if missing := intake.columns.missing():
            if read < SEARCHED_ROWS:
                return False
            raise UserError(
                f"--columns: none of the first {read:,} rows of the input has a column "
                f"{', '.join(missing)}"
            )
        if sizes := SIZES & intake.columns.taken.keys():
            named = ", ".join(sorted(sizes))
            self.why_whole = (
                f"The whole input is read before the first clip, because its rows set {named}: "
                "models are loaded for the largest clip"
            )
            return False
        self.ended_early = True
        return True
