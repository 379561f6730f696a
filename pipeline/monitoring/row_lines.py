"""What a run says of its first rows of a kind: their plan, and what their quality lacks."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.monitoring.profile_lines import say_plans


def say_news(say_line: Callable[[str], None], table: pa.Table, told: set[object]) -> None:
    """Say what rows show that was not said before, whichever process made them.

    Args:
        say_line: Prints a line.
        table: Output rows.
        told: What was said already; this function adds to it.
    """
    say_plans(say_line, table, told)
    for reason in pc.unique(pc.struct_field(table["quality"], "missing")).to_pylist():
        if reason and reason not in told:
            told.add(reason)
            say_line(f"{reason}; controls are compared without it")
