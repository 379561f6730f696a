"""Exports take scores by name: those of the rows, and those that were given to clips later."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.errors import UserError
from pipeline.export.select import select
from pipeline.scoring.stored_scores import KeepChoice, write_choice, write_scores
from pipeline.storage.storage import Storage


def listed(**scores: float) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in scores.items()]


@pytest.fixture
def prefix(tmp_path: Path) -> Storage:
    """Four clips with motion 0.0 to 0.3, of which the last two are good."""
    storage = Storage(str(tmp_path))
    rows = []
    for number in range(4):
        blank = rejected_row(f"{number:020x}", f"caption {number}", "", "demo", "r", "")
        made = {"status": "ok", "media_sha256": f"{number:064x}", "good": number > 1}
        rows.append(blank | made | {"scores": listed(motion=number / 10)})
    writer = PartWriter(storage, "r", part_rows=2, part_seconds=1e9)
    writer.add(to_table(rows))
    writer.flush()
    return storage


def chosen(storage: Storage, where: str) -> list[int]:
    with select(storage, where=where, splits={"train": 1.0}, shard_rows=9) as found:
        return [int(sample_id, 16) for shard in found.shards for sample_id in shard.ids]


@pytest.mark.slow
def test_scores_and_verdicts_are_columns_of_conditions(prefix: Storage) -> None:
    assert chosen(prefix, "motion > 0.15") == [2, 3]
    assert chosen(prefix, "good") == [2, 3]
    assert chosen(prefix, "not good and motion < 0.05") == [0]
    with pytest.raises(UserError, match=r"'moton'; did you mean motion\? \(scores are motion\)"):
        chosen(prefix, "moton > 0.1")


@pytest.mark.slow
def test_scores_that_were_given_later_count_and_are_exported(prefix: Storage) -> None:
    write_scores(
        prefix,
        "a",
        [
            {
                "sample_id": f"{0:020x}",
                "media_sha256": f"{0:064x}",
                "scores": listed(motion=0.9, text=5.0),
                "scorers": ["later@1"],
                "scores_missing": "",
                "score_s": 0.1,
                "perceptual_hash": "p1:00",
                "scored_at": datetime.datetime.now(datetime.UTC),
            }
        ],
    )
    assert chosen(prefix, "motion > 0.15") == [0, 2, 3]
    assert chosen(prefix, "text > 4") == [0]
    write_choice(prefix, KeepChoice("motion > 0.25", ("motion",)))
    assert chosen(prefix, "good") == [0, 3]
    with select(prefix, where="text > 4", splits={"train": 1.0}, shard_rows=9) as found:
        (row,) = found.shards[0].rows()
    assert {each["name"]: each["value"] for each in row["scores"]} == {"motion": 0.9, "text": 5.0}
    assert row["good"] is True
