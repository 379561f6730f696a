import contextlib
import dataclasses
import hashlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline import media
from pipeline.controls import control_for
from pipeline.deadline import EXIT_OVERDUE
from pipeline.engine import BadNodeError, Clip, EngineDiedError
from pipeline.errors import StorageError, UserError
from pipeline.group import RankDiedError
from pipeline.ledger import Ledger
from pipeline.produce import Producer
from pipeline.request import CacheSpec, SampleRequest
from pipeline.schema import NO_CACHE, media_key, to_table
from pipeline.storage import Storage
from tests.chaos.results import can_mount, small_disk

BASE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0)


def requests(*prompts: str) -> list[SampleRequest]:
    return [dataclasses.replace(BASE, prompt=prompt) for prompt in prompts]


Fault = Callable[[Sequence[SampleRequest]], None]


class FakeEngine:
    """Grey frames; `fault` sees each batch first and may raise."""

    device_name = "fake"
    group_size = 2

    def __init__(
        self, fault: Callable[[Sequence[SampleRequest]], None] = lambda batch: None
    ) -> None:
        self.fault = fault
        self.batches: list[list[str]] = []
        self.closed = False

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        self.batches.append([request.prompt for request in requests])
        self.fault(requests)
        return [
            Clip(
                np.full((r.num_frames, r.height, r.width, 3), 90, np.uint8),
                dict(NO_CACHE) | {"nfe": 3, "reused": 1, "decisions": "CRCC"},
                123,
            )
            for r in requests
        ]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def storage() -> Storage:
    return Storage(f"memory://produce-{uuid.uuid4().hex}")


def producer(engine: FakeEngine, storage: Storage, ledger: Ledger | None = None) -> Producer:
    return Producer(engine, storage, ledger or ledger_of(storage), "run", batch_rows=3)


def ledger_of(storage: Storage, max_attempts: int = 3) -> Ledger:
    return Ledger(storage, "run", max_attempts=max_attempts)


def test_ok_rows_describe_the_stored_media(storage: Storage) -> None:
    engine = FakeEngine()
    rows = producer(engine, storage).produce(requests("a", "b"))
    assert engine.batches == [["a", "b"]]
    assert [row["caption"] for row in rows] == ["a", "b"]
    for row in rows:
        data = storage.read_bytes(row["video"]["path"])
        assert row["video"]["path"] == media_key(row["sample_id"])
        assert (row["media_bytes"], row["media_sha256"]) == (
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        assert media.decode(data).shape == (5, 16, 32, 3)
        assert media.read_row(data)["sample_id"] == row["sample_id"]
        assert (row["status"], row["attempts"], row["batch_rows"]) == ("ok", 1, 2)
        assert row["gpu_s"] == pytest.approx(2 * row["wall_s"])
        assert row["cache"]["decisions"] == "CRCC"
    assert to_table(rows).num_rows == 2


def test_only_requests_that_agree_share_a_call(storage: Storage) -> None:
    engine = FakeEngine()
    mixed = [
        *requests("a"),
        dataclasses.replace(BASE, prompt="wide", width=48),
        *requests("b"),
    ]
    rows = producer(engine, storage).produce(mixed)
    assert engine.batches == [["a", "b"], ["wide"]]
    assert [row["caption"] for row in rows] == ["a", "wide", "b"]


def test_one_bad_row_fails_alone_after_its_attempts(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "bad" for request in batch):
            raise ValueError("cannot draw\nthis")

    engine = FakeEngine(fault)
    rows = producer(engine, storage).produce(requests("a", "bad", "b"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    bad = rows[1]
    assert (bad["error_type"], bad["error_message"]) == ("ValueError", "cannot draw this")
    assert (bad["attempts"], bad["video"], bad["media_bytes"]) == (3, None, 0)
    assert engine.batches == [["a", "bad", "b"], ["a"], *[["bad"]] * 3, ["b"]]
    assert to_table(rows).num_rows == 3


def test_a_sample_that_keeps_killing_its_process_becomes_a_failed_row(storage: Storage) -> None:
    ledger = ledger_of(storage)
    sample = requests("poison")[0]
    for process in range(3):
        ledger.claim([sample.sample_id], f"node/{process}")
    engine = FakeEngine()
    worker = Producer(engine, storage, ledger, "run", batch_rows=3, node="node")
    (row,) = worker.produce([sample])
    assert engine.batches == []
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "WorkerDied", 3)
    assert row["error_message"] == "attempt 3 on node/2 ended with the death of its process"


def test_media_of_an_attempt_that_died_after_storing_is_taken_over(storage: Storage) -> None:
    ledger = ledger_of(storage)
    (first,) = producer(FakeEngine(), storage, ledger).produce(requests("a"))
    ledger.claim([first["sample_id"]], "node/1")  # began again, and its process died
    engine = FakeEngine()
    (row,) = producer(engine, storage, ledger).produce(requests("a"))
    assert engine.batches == []
    stored = first | {"encode_s": 0.0, "upload_s": 0.0}  # not known when the mp4 was written
    assert row == stored
    assert to_table([row]).equals(to_table([stored]))


def test_torn_media_is_made_again(storage: Storage) -> None:
    ledger = ledger_of(storage)
    sample = requests("a")[0]
    storage.put_bytes(media_key(sample.sample_id), b"\x00\x00\x00\x18ftypmp42")
    ledger.claim([sample.sample_id], "node/1")
    engine = FakeEngine()
    (row,) = producer(engine, storage, ledger).produce([sample])
    assert engine.batches == [["a"]]
    assert (row["status"], row["attempts"]) == ("ok", 2)
    assert media.decode(storage.read_bytes(row["video"]["path"])).shape[0] == 5


def test_a_lost_device_ends_the_engine_and_leaves_its_reason(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError, match="illegal memory access"):
        producer(FakeEngine(fault), storage, ledger).produce(requests("a"))
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert (claim.attempts, claim.kind) == ([2], "RuntimeError")
    assert "illegal memory access" in claim.reason


def test_what_killed_an_engine_is_the_kind_of_its_attempt(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        try:
            raise RankDiedError(1, "was killed by SIGKILL", "")
        except RankDiedError as error:
            raise EngineDiedError(str(error)) from error

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError):
        producer(FakeEngine(fault), storage, ledger).produce(requests("a"))
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert claim.kind == "RankDiedError"
    assert "rank 1 was killed by SIGKILL" in claim.reason


def test_what_a_lost_engine_cost_is_in_the_row_that_another_makes(storage: Storage) -> None:
    def die(batch: Sequence[SampleRequest]) -> None:
        time.sleep(0.05)
        raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    for _ in range(2):
        with pytest.raises(EngineDiedError):
            producer(FakeEngine(die), storage, ledger).produce(requests("a"))
    (row,) = producer(FakeEngine(), storage, ledger).produce(requests("a"))
    assert (row["status"], row["attempts"]) == ("ok", 3)
    assert row["times"]["wasted_s"] >= 0.1


def test_a_store_that_fails_blames_no_sample(tmp_path: Path) -> None:
    blocked = tmp_path / "out"
    blocked.mkdir()
    (blocked / "media").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        producer(FakeEngine(), Storage(str(blocked))).produce(requests("a"))


def test_a_task_of_many_samples_makes_calls_of_batch_rows(storage: Storage) -> None:
    engine = FakeEngine()
    rows = producer(engine, storage).produce(requests(*"abcdefgh"))
    assert engine.batches == [list("abc"), list("def"), list("gh")]
    assert [row["caption"] for row in rows] == list("abcdefgh")


def test_samples_of_a_task_that_died_later_on_are_taken_over(storage: Storage) -> None:
    def die(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "d" for request in batch):
            raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError):
        producer(FakeEngine(die), storage, ledger).produce(requests(*"abcd"))
    engine = FakeEngine()
    rows = producer(engine, storage, ledger).produce(requests(*"abcd"))
    assert engine.batches == [["d"]]
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert [row["attempts"] for row in rows] == [1, 1, 1, 2]


def test_one_attempt_is_enough_for_the_innocent(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "bad" for request in batch):
            raise ValueError("no")

    ledger = ledger_of(storage, max_attempts=1)
    rows = producer(FakeEngine(fault), storage, ledger).produce(requests("a", "bad", "b"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert [row["attempts"] for row in rows] == [1, 1, 1]


def test_settings_that_no_sample_is_to_blame_for_stop_the_run(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise UserError("the profile does not fit")

    engine = FakeEngine(fault)
    with pytest.raises(UserError, match="does not fit"):
        producer(engine, storage).produce(requests("a", "b"))
    assert engine.batches == [["a", "b"]]


def test_a_batch_is_retried_after_its_exception_is_gone(storage: Storage) -> None:
    seen: list[BaseException | None] = []

    def fault(batch: Sequence[SampleRequest]) -> None:
        seen.append(sys.exc_info()[1])
        if len(batch) > 1:
            raise MemoryError("too large together")

    rows = producer(FakeEngine(fault), storage).produce(requests("a", "b"))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert seen == [None, None, None]


PATIENCE_S = 60.0
"""A test that waits so long has failed; nothing hangs on how long things take."""


class SlowStorage(Storage):
    """Does not store the clip of `sample_id` before `go` is set."""

    def __init__(self, uri: str, sample_id: str) -> None:
        super().__init__(uri)
        self.sample_id, self.go = sample_id, threading.Event()
        self.reached = threading.Event()

    def create_file(self, key: str, local_path: str | os.PathLike[str]) -> bool:
        if key == media_key(self.sample_id):
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
        return super().create_file(key, local_path)


def test_a_clip_is_stored_while_the_next_is_sampled(storage: Storage) -> None:
    first, second = requests("a", "b")
    slow = SlowStorage(storage.uri, first.sample_id)

    def fault(batch: Sequence[SampleRequest]) -> None:
        if batch[0].prompt == "b":
            assert slow.reached.wait(PATIENCE_S)
            slow.go.set()  # only the second engine call lets the first clip be stored

    worker = producer(FakeEngine(fault), slow)
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(worker.produce, [[first], [second]]))
    assert [row["status"] for (row,) in rows] == ["ok", "ok"]
    assert all(row["upload_s"] > 0 and row["encode_s"] > 0 for (row,) in rows)


def test_engine_calls_never_overlap_and_stay_in_one_thread(storage: Storage) -> None:
    inside, seen = threading.Lock(), set()

    def fault(batch: Sequence[SampleRequest]) -> None:
        assert inside.acquire(blocking=False)
        seen.add(threading.get_ident())
        inside.release()

    worker = producer(FakeEngine(fault), storage)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(worker.produce, [requests(c) for c in "abcdefgh"]))
    assert [row["status"] for (row,) in parts] == ["ok"] * 8
    assert len(seen) == 1


def test_who_waits_for_its_turn_is_not_charged_for_a_death(storage: Storage) -> None:
    (killer,), (waiting,) = requests("killer"), requests("waiting")
    begun, queued = threading.Event(), threading.Event()

    def fault(batch: Sequence[SampleRequest]) -> None:
        begun.set()
        assert queued.wait(PATIENCE_S)
        raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    worker = producer(FakeEngine(fault), storage, ledger)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(worker.produce, [killer])
        assert begun.wait(PATIENCE_S)
        second = pool.submit(worker.produce, [waiting])
        queued.set()
        for each in (first, second):
            with pytest.raises(EngineDiedError, match="gone"):
                each.result(PATIENCE_S)
    assert ledger.claim([killer.sample_id], "n/2").attempts == [2]
    assert ledger.claim([waiting.sample_id], "n/2").attempts == [1]


def test_a_clip_that_cannot_be_encoded_does_not_cost_its_neighbours_a_second_call(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = media.encode

    def picky(frames: media.Frames, fps: int, row: dict[str, object], path: Path) -> None:
        if row["caption"] == "b":
            raise ValueError("cannot encode\nthis")
        encode(frames, fps, row, path)

    monkeypatch.setattr(media, "encode", picky)
    engine = FakeEngine()
    rows = producer(engine, storage).produce(requests("a", "b", "c"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert (rows[1]["error_type"], rows[1]["error_message"]) == ("ValueError", "cannot encode this")
    assert rows[1]["attempts"] == 3
    assert engine.batches == [["a", "b", "c"], ["b"], ["b"]]


def test_closing_stores_what_is_made_and_ends_the_engine(storage: Storage) -> None:
    (only,) = requests("a")
    slow = SlowStorage(storage.uri, only.sample_id)
    engine = FakeEngine()
    worker = producer(engine, slow)
    with ThreadPoolExecutor(2) as pool:
        row = pool.submit(worker.produce, [only])
        assert slow.reached.wait(PATIENCE_S)
        closing = pool.submit(worker.close)
        assert not engine.closed
        slow.go.set()
        closing.result(PATIENCE_S)
        assert row.result(PATIENCE_S)[0]["status"] == "ok"
    assert engine.closed
    with pytest.raises(EngineDiedError, match="closed"):
        worker.produce(requests("b"))


def test_a_row_says_where_its_seconds_went(storage: Storage) -> None:
    failures = iter([ValueError("once")])

    def fault(batch: Sequence[SampleRequest]) -> None:
        time.sleep(0.01)
        for error in failures:
            raise error

    (row,) = producer(FakeEngine(fault), storage).produce(requests("a"))
    times, worker = row["times"], row["worker"]
    parts = times["text_s"] + times["denoise_s"] + times["decode_s"]
    assert parts == pytest.approx(row["wall_s"])
    assert times["wasted_s"] >= 0.01
    spent = row["wall_s"] + times["wasted_s"]
    assert worker["load_s"] + spent <= worker["up_s"]


def test_a_pair_is_made_in_calls_of_its_own_and_compared_before_the_mp4(storage: Storage) -> None:
    cached = [
        dataclasses.replace(request, cache=CacheSpec("paper", "{}", "hash"))
        for request in requests(*"abcd")
    ]
    controls = [control_for(cached[1]), control_for(cached[3])]
    engine = FakeEngine()
    rows = producer(engine, storage).produce([*cached, *controls])
    assert engine.batches == [["a", "c"], ["b", "d"], ["b", "d"]]
    twins = [cached[1].sample_id, cached[3].sample_id]
    assert [row["control_of"] for row in rows] == ["", "", "", "", *twins]
    assert [row["quality"] for row in rows[:4]] == [None] * 4
    for row in rows[4:]:
        assert row["quality"]["psnr_db"] == 100.0
        assert row["quality"]["ssim"] == pytest.approx(1.0)
        stored = media.read_row(storage.read_bytes(row["video"]["path"]))
        assert stored["quality"] == row["quality"]
    (late,) = producer(engine, storage).produce([control_for(cached[0])])
    assert late["quality"] is None  # its sample was made elsewhere


def test_a_call_that_does_not_come_back_ends_the_process_with_a_reason(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    codes: list[int] = []
    monkeypatch.setattr("os._exit", lambda code: (codes.append(code), ended.set()))
    ledger = ledger_of(storage)
    engine = FakeEngine(lambda batch: assert_true(ended.wait(PATIENCE_S)))
    worker = Producer(engine, storage, ledger, "run", batch_rows=1, deadline_s=0.05)
    worker.produce(requests("a"))
    assert codes == [EXIT_OVERDUE]
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert claim.kind == "DeadlineExceededError"
    assert claim.reason == "the engine call gave no answer within 0.05 s"


def assert_true(value: bool) -> None:
    assert value


def test_clips_that_are_taken_over_do_not_count_as_deaths(storage: Storage) -> None:
    """A task that is tried again goes through its finished samples before it dies once more."""
    ledger = ledger_of(storage)
    ledger.claim(["w"], "other/1")
    ledger.made(["w"])
    wanted = requests("a", "b", "c", "d")
    Producer(FakeEngine(), storage, ledger, "run", batch_rows=1, node="n").produce(wanted)
    for _ in range(3):
        again = Producer(FakeEngine(), storage, ledger, "run", batch_rows=1, node="n")
        again._where = f"n/{id(again)}"  # another process
        assert [row["status"] for row in again.produce(wanted)] == ["ok"] * 4
    assert ledger.bad_nodes() == {}


def test_a_worker_on_a_bad_node_makes_nothing_more(storage: Storage) -> None:
    ledger = ledger_of(storage)
    ledger.claim(["w"], "good/1")
    ledger.made(["w"])
    for number, sample in enumerate("xyz"):
        ledger.claim([sample], f"bad/{number}")
        ledger.claim([sample], f"bad/{number}b")
    engine = FakeEngine()
    worker = Producer(engine, storage, ledger, "run", batch_rows=3, node="bad")
    with pytest.raises(BadNodeError, match="node bad kills whatever runs on it"):
        worker.produce(requests("a", "b"))
    assert engine.batches == []


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_a_full_temporary_disk_blames_no_sample(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk() as folder:
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        worker = producer(FakeEngine(), storage)
        with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(StorageError, match=r"cannot write clips to .* no space left"):
            worker.produce(requests("a"))
        worker.close()
