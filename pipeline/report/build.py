"""What a dataset is, what it cost and what caching did: numbers, page and card of a prefix."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.accounts import Roles
from pipeline.report.card import write_card
from pipeline.report.document import Report
from pipeline.report.gallery import previews
from pipeline.report.numbers import measure_rows
from pipeline.report.outlook import BUDGETS
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.rows import read_rows
from pipeline.storage.storage import Storage

REPORT_KEY = "report/report.json"
PAGE_KEY = "report/index.html"

__all__ = ["BUDGETS", "PAGE_KEY", "REPORT_KEY", "Prices", "Report", "make_report"]


def make_report(
    storage: Storage,
    prices: Prices,
    *,
    more_clips: int = 0,
    budgets: Sequence[float] = BUDGETS,
) -> Report:
    """Measure a prefix and write its report into it.

    Args:
        storage: The output prefix.
        prices: What devices cost.
        more_clips: Project the cost of so many further clips.
        budgets: Shares of steps for the what-if table.

    Raises:
        StorageError: The prefix cannot be read or written, or holds no rows.
    """
    rows = read_rows(storage)
    report = measure_rows(rows, prices, more_clips=more_clips, budgets=budgets)
    page = render(report, previews(storage, [*report.gallery, *report.worst]))
    storage.put_bytes(PAGE_KEY, page.encode())
    storage.put_bytes(REPORT_KEY, (report.model_dump_json(indent=1) + "\n").encode())
    write_card(storage, report, rows, Roles.of(rows).clips)
    return report
