"""Writes the index, card and report of a prefix, and the contact sheet of a run.

All of them are views of rows and clips that are there already, so none can make a run fail. The
index and the card, by which others read the dataset, come before the page, which takes longer.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.contact_sheet import MAX_CLIPS, contact_sheet
from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.parts import part_files
from pipeline.export.index import INDEX_KEY
from pipeline.interrupt import STOPPED, kept_as_stop, uninterrupted
from pipeline.monitoring.console import say
from pipeline.prefix.first_card import CARD_KEY, is_first, write_first_card
from pipeline.report.card import write_card, write_clip_index
from pipeline.report.document import Report
from pipeline.report.gallery import previews
from pipeline.report.good_clips.measure import good_clips_shown
from pipeline.report.numbers import measure
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.pricing.projections import BUDGETS
from pipeline.report.rows import RowRoles, read_rows
from pipeline.report.text import good_clips
from pipeline.scoring.stored_scores import read_choice
from pipeline.storage.storage import Storage
from pipeline.wording import are, called_as, counted

REPORT_KEY = "report/report.json"
PAGE_KEY = "report/index.html"
CONTACT_SHEET_KEY = "contact_sheet.png"

CARD_KEPT = (
    f"card not written: {CARD_KEY} has been edited or was not written by this pipeline; delete it "
    "for a new one"
)

WRITTEN = {INDEX_KEY: "index", CARD_KEY: "card", PAGE_KEY: "page", REPORT_KEY: "numbers"}
"""What a report consists of, in the order in which it is written."""


def write_report(
    storage: Storage,
    prices: Prices,
    *,
    more_clips: int = 0,
    budgets: Sequence[float] = BUDGETS,
    all_duplicates: bool = False,
    on_written: Callable[[str], object] = lambda key: None,
) -> Report:
    """Measure a prefix and write its index, card and report into it, in the order of `WRITTEN`.

    Args:
        storage: The output prefix.
        prices: What devices cost.
        more_clips: Project the cost of so many further clips.
        budgets: Shares of steps for the what-if table.
        all_duplicates: Look for near duplicates however many clips there are.
        on_written: Is told the key of each file when it is written. Of a card that a person has
            edited it is told nothing: that is kept.

    Raises:
        StorageError: The prefix cannot be read or written, or holds no rows.
    """
    rows, index = read_rows(storage), ""
    if len(rows):  # `measure` refuses a prefix without rows
        index = write_clip_index(storage, rows, RowRoles.of(rows).clips)
        on_written(INDEX_KEY)
    report = measure(
        rows, prices, more_clips=more_clips, budgets=budgets, all_duplicates=all_duplicates
    )
    if write_card(storage, report, index):
        on_written(CARD_KEY)
    judged = good_clips_shown(report.good_clips) if report.good_clips else []
    page = render(report, previews(storage, [*report.gallery, *judged, *report.worst]))
    storage.put_bytes(PAGE_KEY, page.encode())
    on_written(PAGE_KEY)
    storage.put_bytes(REPORT_KEY, (report.model_dump_json(indent=1) + "\n").encode())
    on_written(REPORT_KEY)
    return report


def is_current(storage: Storage, runs: Sequence[RunStatus]) -> bool:
    """Whether a prefix has an index, a card and a report of its rows and its condition.

    The report names the runs that it knows and their ends. So no clock is compared with another
    one, except for a run that was killed and has no end. It also names the condition that it
    judged clips by.

    Args:
        storage: The output prefix.
        runs: All runs into it, of which none is alive.
    """
    if not all(storage.exists(key) for key in WRITTEN) or is_first(storage):
        return False
    try:
        report = json.loads(storage.read_bytes(REPORT_KEY))
        ends = {run["run_id"]: run["ended_at"] for run in report["runs"]}
        made_at = str(report["generated_at"])
        has_clips, found = bool(report["totals"]["ok"]), report["good_clips"]
        judged_by = str(found["condition"]) if found else ""
    except (ValueError, KeyError, TypeError):
        return False
    keep = read_choice(storage).keep
    if keep and has_clips and judged_by != keep:
        return False
    return all(
        made_at >= run.seen_at if run.state == "running" else ends.get(run.run_id) == run.seen_at
        for run in runs
    )


class ReportWriter:
    """Collects the first clips of a run, and at its end writes the contact sheet and the report."""

    def __init__(
        self, storage: Storage, console: Console, *, report: bool, contact_sheet: bool
    ) -> None:
        """Start with no clip.

        Args:
            storage: The output prefix.
            console: Is told what is written, or why it is not.
            report: Whether index, card and report are wanted.
            contact_sheet: Whether the sheet is.
        """
        self._storage, self._console = storage, console
        self._report, self._sheet = report, contact_sheet
        self._shown: list[dict[str, Any]] = []

    @classmethod
    def of(cls, config: RunConfig, storage: Storage, console: Console) -> ReportWriter:
        """What the settings of a run ask for."""
        return cls(storage, console, report=config.report, contact_sheet=config.contact_sheet)

    def add(self, table: pa.Table) -> None:
        """Keep the first ok rows for the contact sheet."""
        room = MAX_CLIPS - len(self._shown)
        if room > 0:
            rows = table.select(["status", "video", "caption", "control_of"]).to_pylist()
            ok = [row for row in rows if row["status"] == "ok" and not row["control_of"]]
            self._shown += ok[:room]

    def say_how(self) -> None:
        """Print the command that writes the report."""
        self._say(f"A report on what is there: {self._command}")

    def write(self, judged: int = 0) -> None:
        """Write what is wanted; the sheet only if there is a clip to show.

        Args:
            judged: Clips that this run judged. Of a dataset with more judged clips than these, it
                is said how many are good.
        """
        if self._report:
            self._write_report(judged)
        if self._sheet and self._shown:
            self._write_contact_sheet()

    def mend(self, runs: Sequence[RunStatus]) -> None:
        """Write the report where the last run into a finished dataset did not come to it.

        Args:
            runs: All runs into the prefix. While one of them is alive, nothing is written: it does
                so at its end.
        """
        if not part_files(self._storage):
            return
        write_first_card(self._storage)
        if not self._report or any(run.alive for run in runs):
            return
        if not is_current(self._storage, runs):
            self._say("The report is missing or older than the rows or their condition.")
            self.write()

    def _write_contact_sheet(self) -> None:
        try:
            sheet = contact_sheet(self._storage, self._shown)
            self._storage.put_bytes(CONTACT_SHEET_KEY, sheet)
        except STOPPED:
            self._say("interrupted: no contact sheet of this run; everything else is written")
            raise
        except Exception as error:  # noqa: BLE001 - reported; the dataset is complete without it
            self._say(f"no contact sheet: {type(error).__name__}: {error}")

    def _write_report(self, judged: int) -> None:
        self._say("Writing the index, the card and the report of the dataset …")
        left = dict(WRITTEN)
        try:
            with kept_as_stop():
                report = write_report(self._storage, Prices(), on_written=left.pop)
        except STOPPED:
            if left:
                missing = ", ".join(f"{name} ({key})" for key, name in left.items())
                with uninterrupted():  # by one signal more this would go unsaid
                    self._say(
                        f"interrupted: no new {missing}; to write what is left: {self._command}"
                    )
            raise
        except Exception as error:  # noqa: BLE001 - reported; jobs/report.py can write it later
            self._say(f"no report: {type(error).__name__}: {error}")
            return
        if CARD_KEY in left:
            self._say(CARD_KEPT)
        if lost := report.totals.lost:
            self._say(
                f"{counted(lost, 'file', grouped=True)} of ok rows {are(lost)} missing or of "
                "another size; the command that made them makes them again with --verify"
            )
        found = report.good_clips
        if found is not None and found.good + found.not_good > judged:
            parts = " · ".join(part for part in good_clips(found) if part)
            self._say(f"good clips of the whole dataset: {parts}")
        self._say(f"report: {self._storage.uri}/{PAGE_KEY}")
        if report.verdict is not None:
            self._say(f"next: {report.verdict.next}")
            if report.verdict.command:
                self._say(f"  {report.verdict.command}")

    @property
    def _command(self) -> str:
        return f"{called_as('report')} --output {shlex.quote(self._storage.uri)}"

    def _say(self, text: str) -> None:
        say(self._console, text, one_line=True)
