"""Writes the report, the page and the card of a prefix, and the contact sheet of a run.

All of them are views of a dataset that is complete without them, so none can make a run fail.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from pipeline.dataset.contact_sheet import MAX_CLIPS, contact_sheet
from pipeline.monitoring.console import say
from pipeline.report.card import write_card
from pipeline.report.document import Report
from pipeline.report.gallery import previews
from pipeline.report.good_clips.measure import good_clips_shown
from pipeline.report.numbers import measure
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.pricing.projections import BUDGETS
from pipeline.report.rows import RowRoles, read_rows
from pipeline.report.text import good_clips
from pipeline.storage.storage import Storage
from pipeline.wording import called_as

REPORT_KEY = "report/report.json"
PAGE_KEY = "report/index.html"
CONTACT_SHEET_KEY = "contact_sheet.png"


def write_report(
    storage: Storage,
    prices: Prices,
    *,
    more_clips: int = 0,
    budgets: Sequence[float] = BUDGETS,
    all_duplicates: bool = False,
) -> Report:
    """Measure a prefix and write its report into it.

    Args:
        storage: The output prefix.
        prices: What devices cost.
        more_clips: Project the cost of so many further clips.
        budgets: Shares of steps for the what-if table.
        all_duplicates: Look for near duplicates however many clips there are.

    Raises:
        StorageError: The prefix cannot be read or written, or holds no rows.
    """
    rows = read_rows(storage)
    report = measure(
        rows, prices, more_clips=more_clips, budgets=budgets, all_duplicates=all_duplicates
    )
    judged = good_clips_shown(report.good_clips) if report.good_clips else []
    page = render(report, previews(storage, [*report.gallery, *judged, *report.worst]))
    storage.put_bytes(PAGE_KEY, page.encode())
    storage.put_bytes(REPORT_KEY, (report.model_dump_json(indent=1) + "\n").encode())
    write_card(storage, report, rows, RowRoles.of(rows).clips)
    return report


class ReportWriter:
    """Collects the first clips of a run, and at its end writes the contact sheet and the report."""

    def __init__(self, storage: Storage, console: Console) -> None:
        """Start with no clip; `console` is told what was written, or why it was not."""
        self._storage, self._console = storage, console
        self._shown: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> None:
        """Keep the first ok rows for the contact sheet."""
        room = MAX_CLIPS - len(self._shown)
        if room > 0:
            rows = table.select(["status", "video", "caption", "control_of"]).to_pylist()
            ok = [row for row in rows if row["status"] == "ok" and not row["control_of"]]
            self._shown += ok[:room]

    def say_how(self) -> None:
        """Print the command that writes the report."""
        command = f"{called_as('report')} --output {shlex.quote(self._storage.uri)}"
        self._say(f"A report on what is there: {command}")

    def write(self, *, contact_sheet: bool, report: bool, judged: int = 0) -> None:
        """Write those that are wanted; the sheet only if there is a clip to show.

        Args:
            contact_sheet: Whether the sheet is wanted.
            report: Whether the report is. Of a dataset with more clips than this run judged, it
                also says how many are good.
            judged: Clips that this run judged.
        """
        if contact_sheet and self._shown:
            self._write_contact_sheet()
        if report:
            self._write_report(judged)

    def _write_contact_sheet(self) -> None:
        try:
            sheet = contact_sheet(self._storage, self._shown)
            self._storage.put_bytes(CONTACT_SHEET_KEY, sheet)
        except Exception as error:  # noqa: BLE001 - reported; the dataset is complete without it
            self._say(f"no contact sheet: {type(error).__name__}: {error}")

    def _write_report(self, judged: int) -> None:
        try:
            report = write_report(self._storage, Prices())
        except Exception as error:  # noqa: BLE001 - reported; jobs/report.py can write it later
            self._say(f"no report: {type(error).__name__}: {error}")
            return
        found = report.good_clips
        if found is not None and found.good + found.not_good > judged:
            parts = " · ".join(part for part in good_clips(found) if part)
            self._say(f"good clips of the whole dataset: {parts}")
        self._say(f"report: {self._storage.uri}/{PAGE_KEY}")

    def _say(self, text: str) -> None:
        say(self._console, text, one_line=True)
