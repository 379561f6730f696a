"""What a run knows of one group from its rows alone."""

from __future__ import annotations

from dataclasses import dataclass

QUIET_S = 60.0


@dataclass(slots=True)
class GroupProgress:
    """One group's process that has delivered rows to this run.

    Attributes:
        node: Host name.
        began: Clock at its first row.
        last: Clock at its latest row.
        rows: Rows so far.
    """

    node: str
    began: float
    last: float
    rows: int = 0

    def state(self, now: float) -> str:
        """`working`, or `quiet` if it has been silent for much longer than usual."""
        usual = (self.last - self.began) / max(self.rows - 1, 1)
        quiet = now - self.last
        return "quiet" if self.rows > 1 and quiet > max(5 * usual, QUIET_S) else "working"
