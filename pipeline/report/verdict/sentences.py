"""Joins the four sentences of a verdict."""

from __future__ import annotations

from pipeline.report.document import Report, ReportVerdict
from pipeline.report.verdict.contents import what_there_is
from pipeline.report.verdict.costs import what_it_cost
from pipeline.report.verdict.next_step import next_step
from pipeline.report.verdict.quality_answer import is_it_good


def verdict(report: Report) -> ReportVerdict:
    """Sum up a report for somebody who reads nothing else of it."""
    what, command = next_step(report)
    return ReportVerdict(
        got=what_there_is(report),
        good=is_it_good(report),
        cost=what_it_cost(report),
        next=what,
        command=command,
    )
