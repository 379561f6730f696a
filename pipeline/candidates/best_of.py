"""Makes several drafts of each clip of a task, and finishes the best one.

The drafts of all clips of a task are made together, so that they share engine calls. The row of a
draft stays in `drafts/` of the prefix, so that a run which is interrupted chooses as it would have,
and makes no draft twice. Its clip is thrown away unless drafts are kept.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from pipeline.candidates.drafts import (
    DraftResult,
    DraftSettings,
    candidates_of,
    drafts_of,
    results_json,
)
from pipeline.candidates.redraws import MakeUnits
from pipeline.dataset.schema import Row, draft_key
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage

SettleUnits = Callable[[Sequence[Sequence[SampleRequest]]], Sequence[Sequence[SampleRequest]]]


class RankRow(Protocol):
    """Tells better drafts from worse ones: `pipeline.scoring.conditions.RowRank`."""

    def knows(self, row: Row) -> bool:
        """Whether a row was scored for it."""
        ...

    def of_row(self, row: Row) -> float | None:
        """The rank of a row; None where it is unknown."""
        ...


def stored_draft(storage: Storage, draft: SampleRequest, rank: RankRow) -> Row | None:
    """The row of a draft that was made before, and scored for the same choice.

    None if there is none, or it is damaged, or an earlier run scored it by other scorers or saw
    another number of its frames.
    """
    key = draft_key(draft.sample_id)
    if not storage.exists(key):
        return None
    try:
        found: Row = json.loads(storage.read_bytes(key))
        found["created_at"] = datetime.datetime.fromisoformat(found["created_at"])
        frames = draft.first_frames or draft.num_frames
        return found if found["num_frames"] == frames and rank.knows(found) else None
    except (ValueError, KeyError, TypeError):
        return None


def make_best(
    units: Sequence[Sequence[SampleRequest]],
    make: MakeUnits,
    settings: DraftSettings,
    rank: RankRow,
    storage: Storage,
    *,
    settle: SettleUnits = list,
    forget: Callable[[Sequence[str]], None] = lambda _: None,
) -> list[Row]:
    """Make drafts of the clips of units, and finish the best of each.

    Args:
        units: Requests, each alone or with its control. Clips that measure a run's profile are
            made as they are, because they come before any plan; so are controls whose clips are
            finished.
        make: Makes units and returns the row of each request, in order.
        settings: How many drafts there are, and of what budget.
        rank: What tells better drafts from worse ones. Of equal drafts the first wins; one without
            a rank wins only if none has one.
        storage: The output prefix, which may hold drafts of an earlier run.
        settle: Puts the profile into requests that were packed before it was measured; may wait
            until it is.
        forget: Called with the ids of drafts whose rows are not needed any more.

    Returns:
        One row per request: of those that are made as they are, then of all others, in order.
    """
    as_is = [unit for unit in units if unit[0].records or unit[0].control_of]
    rows = make(as_is) if as_is else []
    others = settle([unit for unit in units if unit not in as_is])
    drafts = [drafts_of(unit[0], settings) for unit in others]
    known = _draft_rows([each for some in drafts for each in some], make, storage, rank)
    finals = []
    for unit, own in zip(others, drafts, strict=True):
        results = [_result(draft, known[draft.sample_id], rank) for draft in own]
        values = [-math.inf if each.value is None else each.value for each in results]
        best = candidates_of(unit[0], settings.best_of)[values.index(max(values))]
        final = replace(best, drafts=results_json(results))
        finals.append([final, control_for(final)] if len(unit) > 1 else [final])
    forget(list(known))
    return rows + (make(finals) if finals else [])


def _draft_rows(
    drafts: Sequence[SampleRequest], make: MakeUnits, storage: Storage, rank: RankRow
) -> dict[str, Row]:
    """The rows of drafts by their ids, of those that are stored and of those that are made now."""
    known = {draft.sample_id: stored_draft(storage, draft, rank) for draft in drafts}
    missing = [draft for draft in drafts if known[draft.sample_id] is None]
    made = make([[draft] for draft in missing]) if missing else []
    now = {draft.sample_id: row for draft, row in zip(missing, made, strict=True)}
    return {sample_id: row for sample_id, row in known.items() if row is not None} | now


def _result(draft: SampleRequest, row: Row, rank: RankRow) -> DraftResult:
    wasted_s = (row["times"] or {}).get("wasted_s") or 0.0
    return DraftResult(
        draft.sample_id,
        draft.seed,
        rank.of_row(row) if row["status"] == "ok" else None,
        int(row["cache"]["nfe"]),
        float(row["gpu_s"]) + wasted_s * int(row["group_size"]),
    )
