"""Tries again, with the next seed, at the clips of a task that are not good.

All clips of a task are made first, then the next tries at those that are not good, together in one
go, and so on. A clip that cannot be judged, because a score that the condition needs is missing, is
not tried again. Neither is one that failed: its attempts are used up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.dataset.schema import Row
from pipeline.requests.sample_request import SampleRequest
from pipeline.requests.seeds import next_try
from pipeline.scoring.panel import ScorerPanel

MakeUnits = Callable[[Sequence[Sequence[SampleRequest]]], list[Row]]
"""Makes units of requests and returns the row of each request, in order."""


def make_with_redraws(
    units: Sequence[Sequence[SampleRequest]], make: MakeUnits, panel: ScorerPanel
) -> list[Row]:
    """Make units and the further tries that they need.

    Args:
        units: Requests, each alone or with its control.
        make: Makes them.
        panel: Says which clips are good.

    Returns:
        The rows of all requests in order, then those of further tries.
    """
    rows: list[Row] = []
    while units:
        made = make(units)
        rows += made
        requests = [request for unit in units for request in unit]
        further = [
            following
            for request, row in zip(requests, made, strict=True)
            # Judged here, not by the row: it may be of a run with another condition.
            if row["status"] == "ok" and panel.is_good(row) is False
            if (following := next_try(request)) is not None
        ]
        units = [[request] for request in further]
    return rows
