"""Output rows with scores, and prefixes that hold them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from pipeline.report.good_clips.document import GoodClips
from pipeline.report.pricing.prices import Prices
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import measure, row

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def scored(
    number: int,
    good: bool | None = None,
    /,
    *,
    minute: int | None = None,
    look: str = "",
    **scores: float | None,
) -> dict[str, Any]:
    """A row whose clip was scored by the scorer `own`.

    Args:
        number: Which clip.
        good: The verdict of its run.
        minute: When it was made; by default in the order of the numbers.
        look: Its perceptual hash.
        scores: By name.
    """
    made = BEGIN + datetime.timedelta(minutes=number if minute is None else minute)
    return row(number) | {
        "scores": [{"name": name, "value": value} for name, value in scores.items()],
        "scorers": ["own@1"],
        "scores_missing": "own: why" if None in scores.values() else "",
        "score_s": 0.5,
        "perceptual_hash": look,
        "good": good,
        "created_at": made,
        "media_sha256": f"{number:064x}",
    }


def record(storage: Storage, keep: str, run: str = "r1") -> Storage:
    """Write the record of a run that had a condition."""
    manifest = {"run_id": run, "state": "done", "config": {"keep": keep}, "input": {}}
    storage.put_bytes(f"runs/{run}.json", json.dumps(manifest).encode())
    return storage


def good_clips(storage: Storage | Path, price: float | None = None, **options: Any) -> GoodClips:
    """What a report says about good clips."""
    storage = storage if isinstance(storage, Storage) else Storage(str(storage))
    prices = Prices({} if price is None else {"": price})
    found = measure(storage, prices, **options).good_clips
    assert found is not None
    return found
