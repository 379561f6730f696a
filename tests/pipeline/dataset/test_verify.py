"""A clip that is lost or damaged after its row: found, marked, and made again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import mp4
from pipeline.dataset.committed import FAILED, PENDING, Ids, committed
from pipeline.dataset.verify import verify
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import row, write


@pytest.fixture
def prefix(tmp_path: Path) -> Storage:
    """Six clips in three parts."""
    rows = []
    for number in range(6):
        made = row(number)
        path = tmp_path / made["video"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        mp4.write(np.full((3, 16, 16, 3), 30 * number, np.uint8), 8, made, path)
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        rows.append(made | {"media_bytes": len(data), "media_sha256": sha256})
    parts = rows[:2], rows[2:4], [*rows[4:], row(9, status="failed")]
    return write(tmp_path, *parts, stored=False)


def rows_of(storage: Storage) -> dict[str, dict[str, object]]:
    folder = Path(storage.uri) / "data"
    tables = [pq.read_table(path) for path in sorted(folder.iterdir())]
    return {each["sample_id"]: each for table in tables for each in table.to_pylist()}


def is_done(storage: Storage, sample_id: str) -> bool:
    return bytes.fromhex(sample_id) in committed(storage)


def test_a_whole_prefix_stays_as_it_is(prefix: Storage) -> None:
    before = {path: path.read_bytes() for path in Path(prefix.uri).rglob("*.parquet")}
    found = verify(prefix)
    assert (found.checked, dict(found.damaged), found.rows.num_rows) == (6, {}, 0)
    assert {path: path.read_bytes() for path in Path(prefix.uri).rglob("*.parquet")} == before


def test_lost_torn_changed_and_swapped_clips_are_pending_again(prefix: Storage) -> None:
    folder = Path(prefix.uri)
    ids = [row(number)["sample_id"] for number in range(6)]
    lost, torn, changed, swapped = (folder / row(n)["video"]["path"] for n in range(4))
    before = rows_of(prefix)
    lost.unlink()
    torn.write_bytes(torn.read_bytes()[:-10])
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    swapped.write_bytes((folder / row(4)["video"]["path"]).read_bytes())
    assert all(is_done(prefix, each) for each in ids)
    dry = verify(prefix, repair=False)
    assert set(dry.damaged) == set(ids[:4])
    assert rows_of(prefix) == before
    found = verify(prefix)
    assert found.damaged == dry.damaged
    assert "missing" in found.damaged[ids[0]]
    assert "bytes instead of" in found.damaged[ids[1]]
    assert "SHA-256" in found.damaged[ids[2]]
    assert found.rows.num_rows == 0
    assert [is_done(prefix, each) for each in ids] == [False] * 4 + [True] * 2
    after = rows_of(prefix)
    for each in ids[:4]:
        assert (after[each]["status"], after[each]["error_type"]) == ("failed", "ClipDamaged")
        assert after[each]["gpu_s"] == before[each]["gpu_s"]  # what it cost stays known
    assert [after[each] for each in ids[4:]] == [before[each] for each in ids[4:]]
    finished = committed(prefix)
    asked = Ids.from_bytes(bytes.fromhex(ids[0] + row(9)["sample_id"]))
    assert finished.states(asked).tolist() == [PENDING, FAILED]
    assert verify(prefix).checked == 2


def test_a_whole_clip_with_another_hash_gives_its_own_row(prefix: Storage) -> None:
    """As two writers leave it in a store that ignores conditions."""
    made = row(0)
    path = Path(prefix.uri) / made["video"]["path"]
    mp4.write(np.full((3, 16, 16, 3), 200, np.uint8), 8, made | {"run_id": "other"}, path)
    found = verify(prefix)
    assert list(found.damaged) == [made["sample_id"]]
    (rebuilt,) = found.rows.to_pylist()
    assert (rebuilt["sample_id"], rebuilt["run_id"]) == (made["sample_id"], "other")
    assert rebuilt["media_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
