"""How many requests a run will make, while its input is still being read."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.prompts.prompt_file import SourceSize
from pipeline.requests.intake import Intake


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the size of a run.

    Attributes:
        requests: Requests that it makes.
        rows: Rows of its input; None while nothing tells.
        read: Rows so far whose clips are among them.
        redraws: Those of `requests` that are further tries at clips that are not good.
        is_exact: Whether the input is counted; else the files' sizes tell about how many there are.
    """

    requests: int
    rows: int | None = None
    read: int = 0
    redraws: int = 0
    is_exact: bool = True


def expected(intake: Intake, size: SourceSize, *, is_read: bool) -> Expected:
    """What an input that is read so far, or to its end, lets a run expect.

    The rows to come are taken to be like those that were read. What the prefix holds beyond the
    samples that were found in it is taken to be theirs.

    Args:
        intake: Of the input.
        size: Of its files.
        is_read: Whether all of it is read.
    """
    counts = intake.counts
    if is_read:
        return Expected(counts.pending, counts.read, counts.read, counts.redraws)
    rows = size.expected(counts.read)
    if rows is not None and intake.limit is not None:
        rows = min(rows, intake.limit)
    # Rows are read in chunks, of which the last is not handled to its end.
    read = round(counts.read * intake.handled / max(intake.accepted, 1))
    if rows is None or not intake.handled:
        return Expected(counts.pending, rows, read, counts.redraws, is_exact=False)
    samples = intake.accepted * rows / counts.read
    wanted = samples * (counts.pending + counts.done) / intake.handled
    left = round(wanted) - max(counts.done, len(intake.committed.ids))
    return Expected(max(left, counts.pending), rows, read, counts.redraws, is_exact=False)
