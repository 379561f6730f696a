"""How benchmarks show their numbers: a table on the console, conditions beside the JSON."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = ""
) -> Table:
    """A table whose first column is text and whose others are numbers.

    Args:
        title: Above it: model, size, device.
        headings: One per column.
        rows: Cells, formatted already.
        caption: Below it: what a reader must know to take the numbers right.
    """
    made = Table(title=title, caption=caption or None, caption_justify="left")
    for position, heading in enumerate(headings):
        made.add_column(heading, justify="right" if position else "left")
    for row in rows:
        made.add_row(*row)
    return made


def conditions() -> dict[str, Any]:
    """What a number depends on: command, hardware, threads, versions, date."""
    import torch

    from pipeline.dataset.schema import versions
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
