"""What a run leaves to look at: the contact sheet and the report.

Both are views of a dataset that is complete without them, so neither can make a run fail.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from rich.console import Console

from pipeline.report.contact_sheet import MAX_CLIPS, contact_sheet
from pipeline.storage.storage import Storage

CONTACT_SHEET_KEY = "contact_sheet.png"


class RunOutputs:
    """Looks at the rows of a run as they come, and draws at its end."""

    def __init__(self, storage: Storage, console: Console) -> None:
        """Prepare; `console` is told what was written, or why not."""
        self._storage, self._console = storage, console
        self._shown: list[dict[str, Any]] = []

    def see(self, table: pa.Table) -> None:
        """Keep the first ok rows, for the contact sheet."""
        room = MAX_CLIPS - len(self._shown)
        if room > 0:
            rows = table.select(["status", "video", "caption", "control_of"]).to_pylist()
            ok = [row for row in rows if row["status"] == "ok" and not row["control_of"]]
            self._shown += ok[:room]

    def write(self, *, contact_sheet: bool, report: bool) -> None:
        """Write those that are wanted; a sheet only if there is a clip to show."""
        if contact_sheet and self._shown:
            self._draw()
        if report:
            self._report()

    def _draw(self) -> None:
        try:
            sheet = contact_sheet(self._storage, self._shown)
            self._storage.put_bytes(CONTACT_SHEET_KEY, sheet)
        except Exception as error:  # noqa: BLE001 - said, and the dataset is complete without it
            self._say(f"no contact sheet: {type(error).__name__}: {error}")

    def _report(self) -> None:
        from pipeline.report.build import PAGE_KEY, make_report
        from pipeline.report.pricing.prices import Prices  # late: it needs plotly

        try:
            make_report(self._storage, Prices())
        except Exception as error:  # noqa: BLE001 - said; jobs/report.py makes it at any time
            self._say(f"no report: {type(error).__name__}: {error}")
        else:
            self._say(f"report: {self._storage.uri}/{PAGE_KEY}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)
