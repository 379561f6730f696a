"""Two workers that make the same clip at the same time, on stores that tell them apart or not."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.dataset.committed import committed
from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.recovery import recover, stored_row
from pipeline.dataset.schema import Row, media_key, to_table
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import PATIENCE_S, FakeEngine, requests, runner
from tests.pipeline.storage.faulty_s3 import FaultyS3

CLIPS = 4
DIED = RunStatus("died", "running", age_s=3600.0, where="gone/1", span_s=7200.0)


class SimultaneousStorage(Storage):
    """Two writers of one clip put it at the same moment."""

    meet = threading.Barrier(2)

    def create_bytes(self, key: str, data: bytes) -> bool:
        self.meet.wait(PATIENCE_S)
        return super().create_bytes(key, data)

    def put_bytes(self, key: str, data: bytes) -> None:
        if "/media/" in f"/{key}" and not self.conditional:
            self.meet.wait(PATIENCE_S)
        super().put_bytes(key, data)


def made_by_two(storage: Storage) -> list[list[Row]]:
    batch = requests(*"abcdefgh"[:CLIPS])
    with ThreadPoolExecutor(2) as pool:
        workers = [runner(FakeEngine(), storage) for _ in range(2)]
        return list(pool.map(lambda worker: [worker.process([r])[0] for r in batch], workers))


@pytest.mark.slow
@pytest.mark.parametrize("ignores", [False, True])
def test_every_row_of_two_writers_is_true(s3: FaultyS3, ignores: bool) -> None:
    s3.ignores_conditions = ignores
    storage = SimultaneousStorage("s3://clips/run").check_writable()
    both = made_by_two(storage)
    for row in [row for rows in both for row in rows]:
        data = storage.read_bytes(row["video"]["path"])
        assert hashlib.sha256(data).hexdigest() == row["media_sha256"]
        assert len(data) == row["media_bytes"]
    clips = [entry.key for entry in storage.list("media/")]
    assert len(clips) == (2 * CLIPS if ignores else CLIPS)
    parts = PartWriter(storage, "two", part_rows=100, part_seconds=60)
    for rows in both:
        parts.add(to_table(rows))
    parts.flush()
    assert len(committed(storage, retry_failed=True).ids) == CLIPS


@pytest.mark.slow
def test_clips_under_names_of_their_own_are_found_again(s3: FaultyS3) -> None:
    s3.ignores_conditions = True
    storage = Storage("s3://clips/run").check_writable()
    made = {row["sample_id"]: row for row in runner(FakeEngine(), storage).process(requests("a"))}
    (sample_id,) = made
    again = runner(FakeEngine(), storage).process(requests("a"))  # another writer's
    (first, _) = sorted(entry.key for entry in storage.list("media/"))
    recovery = recover(storage, committed(storage, retry_failed=True), [DIED])
    (row,) = recovery.rows.to_pylist()
    taken = stored_row(storage, sample_id)
    assert taken is not None
    for found in (row, taken):
        data = storage.read_bytes(found["video"]["path"])
        assert found["video"]["path"] == first
        assert hashlib.sha256(data).hexdigest() == found["media_sha256"]
    assert again[0]["video"]["path"] != made[sample_id]["video"]["path"]


def test_a_damaged_clip_is_not_replaced_under_a_row(storage: Storage) -> None:
    (request,) = requests("a")
    plain = media_key(request.sample_id)
    storage.put_bytes(plain, b"torn")
    first, second = (runner(FakeEngine(), storage).process([request])[0] for _ in range(2))
    assert storage.read_bytes(plain) == b"torn"
    assert first["video"]["path"] == second["video"]["path"] != plain
    data = storage.read_bytes(first["video"]["path"])
    assert hashlib.sha256(data).hexdigest() == first["media_sha256"] == second["media_sha256"]
    recovery = recover(storage, committed(storage, retry_failed=True), [DIED])
    assert (recovery.rows.num_rows, recovery.damaged) == (1, 0)


def test_the_plain_name_is_taken_where_it_is_safe(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out")).check_writable()
    (row,) = runner(FakeEngine(), storage).process(requests("a"))
    assert row["video"]["path"] == media_key(row["sample_id"])
