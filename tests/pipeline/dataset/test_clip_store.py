import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.dataset import mp4
from pipeline.dataset.schema import media_key, to_table
from pipeline.engine.protocol import Clip, EngineDiedError
from pipeline.errors import StorageError
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.panel import ScoringPlan
from pipeline.storage.storage import Storage
from tests.chaos.results import can_mount, small_disk
from tests.pipeline.attempts.runners import (
    PATIENCE_S,
    FakeEngine,
    ledger_of,
    requests,
    runner,
)


def test_ok_rows_describe_the_stored_media(storage: Storage) -> None:
    engine = FakeEngine()
    rows = runner(engine, storage).process(requests("a", "b"))
    assert engine.batches == [["a", "b"]]
    assert [row["caption"] for row in rows] == ["a", "b"]
    for row in rows:
        data = storage.read_bytes(row["video"]["path"])
        assert row["video"]["path"] == media_key(row["sample_id"])
        assert (row["media_bytes"], row["media_sha256"]) == (
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        assert mp4.decode(data).shape == (5, 16, 32, 3)
        assert mp4.read_row(data)["sample_id"] == row["sample_id"]
        assert (row["status"], row["attempts"], row["batch_rows"]) == ("ok", 1, 2)
        assert row["gpu_s"] == pytest.approx(2 * row["wall_s"])
        assert row["cache"]["decisions"] == "CRCC"
    assert to_table(rows).num_rows == 2


def test_a_clip_that_another_worker_was_first_with_keeps_its_cost(storage: Storage) -> None:
    """Each attempt is counted once: with the run, the process and the seconds that it had."""
    (request,) = requests("a")
    (first,) = runner(FakeEngine(), storage).process([request])
    late = BatchRunner(FakeEngine(), storage, ledger_of(storage), "late", batch_rows=1)
    (second,) = late.process([request])
    assert second["media_sha256"] == first["media_sha256"]
    assert second["created_at"] == first["created_at"]
    assert (first["run_id"], second["run_id"]) == ("run", "late")
    assert second["worker"]["id"] != first["worker"]["id"]
    assert second["wall_s"] not in (0.0, first["wall_s"])
    assert second["times"] != first["times"]
    assert to_table([second]).num_rows == 1


def test_a_store_that_fails_blames_no_sample(tmp_path: Path) -> None:
    blocked = tmp_path / "out"
    blocked.mkdir()
    (blocked / "media").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        runner(FakeEngine(), Storage(str(blocked))).process(requests("a"))


class SlowStorage(Storage):
    """A storage that stores the clip of `sample_id` only after `go` is set."""

    def __init__(self, uri: str, sample_id: str) -> None:
        super().__init__(uri)
        self.sample_id, self.go = sample_id, threading.Event()
        self.reached = threading.Event()

    def create_bytes(self, key: str, data: bytes) -> bool:
        if key == media_key(self.sample_id):
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
        return super().create_bytes(key, data)


def test_a_clip_is_stored_while_the_next_is_sampled(storage: Storage) -> None:
    first, second = requests("a", "b")
    slow = SlowStorage(storage.uri, first.sample_id)

    def fault(batch: Sequence[SampleRequest]) -> None:
        if batch[0].prompt == "b":
            slow.go.set()  # only the second engine call lets the first clip be stored

    worker = runner(FakeEngine(fault), slow)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(worker.process, [first])]
        assert slow.reached.wait(PATIENCE_S)  # else the second call might come first
        calls.append(pool.submit(worker.process, [second]))
        rows = [call.result(PATIENCE_S) for call in calls]
    assert [row["status"] for (row,) in rows] == ["ok", "ok"]
    assert all(row["upload_s"] > 0 and row["encode_s"] > 0 for (row,) in rows)


def test_closing_stores_what_is_made_and_ends_the_engine(storage: Storage) -> None:
    (only,) = requests("a")
    slow = SlowStorage(storage.uri, only.sample_id)
    engine = FakeEngine()
    worker = runner(engine, slow)
    with ThreadPoolExecutor(2) as pool:
        row = pool.submit(worker.process, [only])
        assert slow.reached.wait(PATIENCE_S)
        closing = pool.submit(worker.close)
        assert not engine.closed
        slow.go.set()
        closing.result(PATIENCE_S)
        assert row.result(PATIENCE_S)[0]["status"] == "ok"
    assert engine.closed
    with pytest.raises(EngineDiedError, match="closed"):
        worker.process(requests("b"))


@pytest.mark.skipif(not can_mount(), reason="may not mount a small disk: run as root")
def test_a_full_temporary_disk_blames_no_sample(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk() as folder:
        monkeypatch.delattr("os.memfd_create")  # as outside of Linux
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        worker = runner(FakeEngine(), storage)
        with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(StorageError, match=r"cannot encode clips in .* no space left"):
            worker.process(requests("a"))
        worker.close()


def test_a_draft_is_scored_for_its_choice_alone_and_says_how_many_frames_it_shows(
    storage: Storage,
) -> None:
    class Short(FakeEngine):
        def generate(self, batch: Sequence[SampleRequest]) -> list[Clip]:
            clips = super().generate(batch)
            return [
                dataclasses.replace(clip, frames=clip.frames[: one.first_frames or None])
                for clip, one in zip(clips, batch, strict=True)
            ]

    panel = ScoringPlan(("light", "detail"), "black < 2").panel()
    worker = BatchRunner(
        *(Short(), storage, ledger_of(storage), "run"),
        batch_rows=3,
        panel=panel,
        draft_panel=panel.only({"sharpness"}),
    )
    (clip,) = requests("a")
    draft = dataclasses.replace(clip, seed=7, draft_of=clip.sample_id, first_frames=2)
    made, shown = worker.process([clip, draft])
    assert (made["scorers"], made["good"], made["num_frames"]) == (["light@1", "detail@2"], True, 5)
    assert (shown["scorers"], shown["good"], shown["num_frames"]) == (["detail@2"], None, 2)
    assert shown["video"] is None
    assert not storage.exists(media_key(draft.sample_id))
