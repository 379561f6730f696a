"""Stored scores lie over those of the rows: of the same clip, the newest of each name."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.dataset.schema import SCHEMA, rejected_row, to_table
from pipeline.errors import StorageError, UserError
from pipeline.scoring.stored_scores import (
    KEEP_KEY,
    STORED_SCHEMA,
    KeepChoice,
    StoredScores,
    read_choice,
    read_stored,
    write_choice,
    write_scores,
)
from pipeline.storage.storage import Storage


def listed(**scores: float | None) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in scores.items()]


def row(number: int, **scores: float | None) -> dict[str, Any]:
    blank = rejected_row(f"{number:020x}", "", "", "demo", "r", "")
    made = {"status": "ok", "media_sha256": f"{number:064x}", "scorers": ["own@1"]}
    return blank | made | {"scores": listed(**scores), "perceptual_hash": "p1:00", "score_s": 1.0}


def stored(number: int, minute: int = 0, sha: int | None = None, **scores: float | None) -> Any:
    return {
        "sample_id": f"{number:020x}",
        "media_sha256": f"{number if sha is None else sha:064x}",
        "scores": listed(**scores),
        "scorers": ["later@2"],
        "scores_missing": "why" if None in scores.values() else "",
        "score_s": 0.5,
        "perceptual_hash": "p1:ff",
        "scored_at": datetime.datetime(2026, 1, 1, 0, minute, tzinfo=datetime.UTC),
    }


def over(rows: list[Any], scores: list[Any], choice: KeepChoice | None = None) -> list[Any]:
    table = pa.Table.from_pylist(scores, schema=STORED_SCHEMA)
    found = StoredScores(table, choice or KeepChoice()).over(to_table(rows))
    assert found.schema.equals(SCHEMA)
    return found.to_pylist()


def values(found: dict[str, Any]) -> dict[str, float | None]:
    return {each["name"]: each["value"] for each in found["scores"]}


def test_a_stored_score_replaces_its_name_only() -> None:
    (found,) = over([row(1, motion=0.1, black=0.2)], [stored(1, motion=0.9, text=3.0)])
    assert values(found) == {"motion": 0.9, "black": 0.2, "text": 3.0}
    assert found["scorers"] == ["later@2", "own@1"]
    assert found["perceptual_hash"] == "p1:ff"
    assert found["score_s"] == 1.5


def test_the_newest_value_counts_and_a_newer_null_is_null() -> None:
    older, newer = stored(1, 1, motion=0.5, text=1.0), stored(1, 2, motion=None)
    for order in ([older, newer], [newer, older]):
        (found,) = over([row(1, motion=0.1)], order)
        assert values(found) == {"motion": None, "text": 1.0}
        assert found["scores_missing"] == "why"


def test_of_several_versions_of_a_scorer_the_newest_is_named() -> None:
    older, newer = stored(1, 1, motion=0.5), stored(1, 2, motion=0.7)
    older["scorers"] = ["own@3", "a@b@1"]
    newer["scorers"] = ["own@2", "other@1"]
    for order in ([older, newer], [newer, older]):
        (found,) = over([row(1, motion=0.1) | {"scorers": ["own@1", "third@1"]}], order)
        assert found["scorers"] == ["a@b@1", "other@1", "own@2", "third@1"]


def test_a_score_of_another_clip_of_the_sample_does_not_count() -> None:
    made_again = row(1, motion=0.1)
    (found,) = over([made_again], [stored(1, sha=77, motion=0.9)])
    assert found == to_table([made_again]).to_pylist()[0]


def test_rows_keep_their_order_and_all_else() -> None:
    rows = [row(number, motion=number / 100) for number in (5, 3, 9, 1)]
    found = over(rows, [stored(9, motion=1.0)])
    assert [each["sample_id"] for each in found] == [each["sample_id"] for each in rows]
    plain = to_table(rows).to_pylist()
    assert found[0] == plain[0]
    assert (
        found[2]
        | {
            name: plain[2][name]
            for name in ("scores", "scorers", "scores_missing", "perceptual_hash", "score_s")
        }
        == plain[2]
    )


def test_rows_from_before_there_were_scores_get_them() -> None:
    older = row(1) | {"scores": None, "scorers": None, "score_s": None, "perceptual_hash": None}
    (found,) = over([older], [stored(1, motion=0.9)])
    assert values(found) == {"motion": 0.9}
    assert found["scorers"] == ["later@2"]
    assert found["score_s"] == 0.5


def test_the_last_condition_judges_clips_and_nothing_else() -> None:
    rejected = rejected_row("f" * 20, "", "", "demo", "r", "")
    rows = [row(1, motion=0.1) | {"good": True}, row(2, motion=0.9), row(3, motion=None), rejected]
    choice = KeepChoice("motion > 0.5", ("motion",))
    assert [each["good"] for each in over(rows, [], choice)] == [False, True, None, None]
    assert [each["good"] for each in over(rows, [])] == [True, None, None, None]
    judged = over(rows, [stored(1, motion=0.8)], choice)
    assert judged[0]["good"] is True


def test_what_is_written_is_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert read_stored(storage).over(to_table([row(1, motion=0.1)])).num_rows == 1
    write_scores(storage, "aa-00000", [stored(1, motion=0.9)])
    write_scores(storage, "aa-00001", [stored(2, motion=0.3)])
    write_choice(storage, KeepChoice("motion > 0.5", ("motion",)))
    found = read_stored(storage).over(to_table([row(1), row(2)])).to_pylist()
    assert [each["good"] for each in found] == [True, False]


def test_foreign_files_are_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.put_bytes("scores/part-x.parquet", b"nothing")
    with pytest.raises(StorageError, match=r"scores/part-x.parquet is damaged or not written by"):
        read_stored(storage)
    storage.put_bytes(KEEP_KEY, b"{}")
    with pytest.raises(StorageError, match=r"keep.json is damaged"):
        read_choice(storage)
    write_choice(storage, KeepChoice("motion >", ("motion",)))
    (tmp_path / "scores" / "part-x.parquet").unlink()
    with pytest.raises(UserError, match="--keep motion >"):
        read_stored(storage)
