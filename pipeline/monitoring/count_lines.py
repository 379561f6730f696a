"""What a run says when an input is counted that it still read while it made clips."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console

from pipeline.models.memory.preflight import LargestCall
from pipeline.monitoring.console import say, text_of
from pipeline.monitoring.summary import counts_text, remarks
from pipeline.pending_input import PendingInput
from pipeline.wording import counted, place_of_row


def input_lines(pending: PendingInput) -> list[str]:
    """The remarks on an input so far."""
    intake = pending.intake
    return [
        *remarks(intake.counts, intake.reasons),
        *pending.notes.lines(),
        *intake.columns.lines(),
        *pending.long_prompts.lines(),
    ]


def say_counted(
    console: Console,
    pending: PendingInput,
    said: Collection[str],
    largest: LargestCall | None,
    error: Exception | None,
) -> None:
    """Say what the whole input holds, and what is new in it.

    Args:
        console: Prints it.
        pending: The input, read to its end or to the error.
        said: Remarks that were made when the run began.
        largest: What models were loaded for.
        error: Why the input could not be read to its end.
    """
    intake = pending.intake
    text = counts_text(intake.counts)
    if error is None:
        say(console, f"All rows are read: {text}")
    else:
        say(
            console,
            text_of("The prompts could not be read to their end:", "bold red"),
            f" {error}. The clips of the rows before it are made, and then the run ends: {text}",
        )
    for line in input_lines(pending):
        if line not in said:
            say(console, line)
    found = intake.largest
    if largest and found and found.pixels > largest.request.pixels:
        say(
            console,
            f"Larger than what the models were loaded for ({largest.work}): "
            f"{place_of_row(found.source_key)} with "
            f"{found.width}x{found.height}, {counted(found.num_frames, 'frame')}",
        )
