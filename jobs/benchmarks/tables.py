"""Tables for the console, and the conditions that are stored beside the JSON of a benchmark."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = ""
) -> Table:
    """Return a table whose first column is text and whose other columns are numbers.

    Args:
        title: Model, size and device, above the table.
        headings: One per column.
        rows: Cells as formatted text.
        caption: How to read the numbers, below the table.
    """
    made = Table(title=title, caption=caption or None, caption_justify="left")
    for position, heading in enumerate(headings):
        made.add_column(heading, justify="right" if position else "left")
    for row in rows:
        made.add_row(*row)
    return made


def conditions() -> dict[str, Any]:
    """Return what the numbers depend on: command, hardware, threads, versions, date."""
    import torch

    from pipeline.dataset.versions import versions
    from pipeline.engine.device import device_name

    gpu = torch.cuda.is_available()
    return {
        "command": " ".join(sys.argv),
        "cpu": device_name(torch.device("cpu")),
        "gpu": device_name(torch.device("cuda")) if gpu else "",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
