"""What an attempt comes to: a row, another attempt, or the end of its process."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.attempts import attempt
from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.ledger import Ledger
from pipeline.dataset import mp4
from pipeline.dataset.schema import media_key, to_table
from pipeline.engine.protocol import BadNodeError, EngineDiedError
from pipeline.process import EXIT_OVERDUE
from pipeline.ranks.failures import RankDiedError
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import (
    PATIENCE_S,
    FakeEngine,
    assert_true,
    ledger_of,
    requests,
    runner,
)


def test_a_sample_that_keeps_killing_its_process_becomes_a_failed_row(storage: Storage) -> None:
    ledger = ledger_of(storage)
    sample = requests("poison")[0]
    for process in range(3):
        ledger.claim([sample.sample_id], f"node/{process}")
    engine = FakeEngine()
    worker = BatchRunner(engine, storage, ledger, "run", batch_rows=3, node="node")
    (row,) = worker.process([sample])
    assert engine.batches == []
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "WorkerDied", 3)
    assert row["error_message"] == "attempt 3 on node/2 ended with the death of its process"


def test_media_of_an_attempt_that_died_after_storing_is_taken_over(storage: Storage) -> None:
    ledger = ledger_of(storage)
    (first,) = runner(FakeEngine(), storage, ledger).process(requests("a"))
    ledger.claim([first["sample_id"]], "node/1")  # began again, and its process died
    engine = FakeEngine()
    (row,) = runner(engine, storage, ledger).process(requests("a"))
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
    (row,) = runner(engine, storage, ledger).process([sample])
    assert engine.batches == [["a"]]
    assert (row["status"], row["attempts"]) == ("ok", 2)
    assert mp4.decode(storage.read_bytes(row["video"]["path"])).shape[0] == 5


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: no CUDA-capable device is detected",  # it fell off the bus
        "CUDA driver error: unknown error",  # from the allocator of growing segments
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error",
    ],
)
def test_a_lost_device_ends_the_engine_and_leaves_its_reason(storage: Storage, said: str) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise RuntimeError(said)

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError, match=said):
        runner(FakeEngine(fault), storage, ledger).process(requests("a"))
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert (claim.attempts, claim.kind) == ([2], "RuntimeError")
    assert said in claim.reason


def test_too_little_memory_at_the_decode_of_a_batch_costs_no_sample(storage: Storage) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    def fault(batch: Sequence[SampleRequest]) -> None:
        if len(batch) > 1:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 18.86 GiB")

    engine = FakeEngine(fault)
    rows = runner(engine, storage).process(requests("a", "b"))
    assert engine.batches == [["a", "b"], ["a"], ["b"]]
    assert [(row["status"], row["attempts"]) for row in rows] == [("ok", 1), ("ok", 1)]
    assert all(row["times"]["wasted_s"] >= 0 for row in rows)


def test_what_killed_an_engine_is_the_kind_of_its_attempt(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        try:
            raise RankDiedError(1, "was killed by SIGKILL", "")
        except RankDiedError as error:
            raise EngineDiedError(str(error)) from error

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError):
        runner(FakeEngine(fault), storage, ledger).process(requests("a"))
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert claim.kind == "RankDiedError"
    assert "rank 1 was killed by SIGKILL" in claim.reason


def test_samples_of_a_task_that_died_later_on_are_taken_over(storage: Storage) -> None:
    def die(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "d" for request in batch):
            raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    with pytest.raises(EngineDiedError):
        runner(FakeEngine(die), storage, ledger).process(requests(*"abcd"))
    engine = FakeEngine()
    rows = runner(engine, storage, ledger).process(requests(*"abcd"))
    assert engine.batches == [["d"]]
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert [row["attempts"] for row in rows] == [1, 1, 1, 2]


def test_engine_calls_never_overlap_and_stay_in_one_thread(storage: Storage) -> None:
    inside, seen = threading.Lock(), set()

    def fault(batch: Sequence[SampleRequest]) -> None:
        assert inside.acquire(blocking=False)
        seen.add(threading.get_ident())
        inside.release()

    worker = runner(FakeEngine(fault), storage)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(worker.process, [requests(c) for c in "abcdefgh"]))
    assert [row["status"] for (row,) in parts] == ["ok"] * 8
    assert len(seen) == 1


def test_a_call_that_does_not_come_back_ends_the_process_with_a_reason(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    codes: list[int] = []
    monkeypatch.setattr("os._exit", lambda code: (codes.append(code), ended.set()))
    ledger = ledger_of(storage)
    engine = FakeEngine(lambda batch: assert_true(ended.wait(PATIENCE_S)))
    worker = BatchRunner(engine, storage, ledger, "run", batch_rows=1, deadline_s=0.05)
    worker.process(requests("a"))
    assert codes == [EXIT_OVERDUE]
    claim = ledger.claim([requests("a")[0].sample_id], "n/2")
    assert claim.kind == "DeadlineExceededError"
    assert claim.reason == "the engine call gave no answer within 0.05 s"


class LostLedger(Ledger):
    """Raises, or gives no answer, when it is told of an error."""

    silent = False

    def note(self, *args: Any, **kwargs: Any) -> None:
        if self.silent:
            threading.Event().wait()
        raise ConnectionError("the node of the ledger is gone")


@pytest.mark.parametrize("silent", [False, True])
def test_a_ledger_that_is_gone_keeps_no_process_alive(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(attempt, "NOTE_S", 0.05)
    ended = threading.Event()
    codes: list[int] = []
    monkeypatch.setattr("os._exit", lambda code: (codes.append(code), ended.set()))
    ledger = LostLedger(storage, "run", max_attempts=3)
    ledger.silent = silent
    engine = FakeEngine(lambda batch: assert_true(ended.wait(PATIENCE_S)))
    BatchRunner(engine, storage, ledger, "run", batch_rows=1, deadline_s=0.05).process(
        requests("a")
    )
    assert set(codes) == {EXIT_OVERDUE}

    def lose_the_device(batch: Sequence[SampleRequest]) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    with pytest.raises(EngineDiedError, match="launch failure"):
        runner(FakeEngine(lose_the_device), storage, ledger).process(requests("b"))


def test_clips_that_are_taken_over_do_not_count_as_deaths(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retried task goes through its finished samples before it dies again."""
    ledger = ledger_of(storage)
    ledger.claim(["w"], "other/1")
    ledger.made(["w"])
    wanted = requests("a", "b", "c", "d")
    BatchRunner(FakeEngine(), storage, ledger, "run", batch_rows=1, node="n").process(wanted)
    for process in range(3):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        again = BatchRunner(FakeEngine(), storage, ledger, "run", batch_rows=1, node="n")
        assert [row["status"] for row in again.process(wanted)] == ["ok"] * 4
    assert ledger.bad_nodes() == {}


def test_a_worker_on_a_bad_node_makes_nothing_more(storage: Storage) -> None:
    ledger = ledger_of(storage)
    ledger.claim(["w"], "good/1")
    ledger.made(["w"])
    for number, sample in enumerate("xyz"):
        ledger.claim([sample], f"bad/{number}")
        ledger.claim([sample], f"bad/{number}b")
    engine = FakeEngine()
    worker = BatchRunner(engine, storage, ledger, "run", batch_rows=3, node="bad")
    with pytest.raises(BadNodeError, match="node bad kills whatever runs on it"):
        worker.process(requests("a", "b"))
    assert engine.batches == []


class AcceleratorError(RuntimeError):
    """What torch raises for a lost device since 2.8."""


def test_a_lost_accelerator_ends_the_engine_whatever_its_words(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise AcceleratorError("device-side assert")

    with pytest.raises(EngineDiedError, match="device-side assert"):
        runner(FakeEngine(fault), storage).process(requests("a"))


def test_attempts_that_wait_when_the_engine_is_closed_never_begin(storage: Storage) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fault(batch: Sequence[SampleRequest]) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)

    engine = FakeEngine(fault)
    worker = runner(engine, storage)
    turns = worker._attempts._turns
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(worker.process, requests("a"))
        assert begun.wait(PATIENCE_S)
        second = pool.submit(worker.process, requests("b"))
        while not turns._work_queue.qsize():
            time.sleep(0.005)
        closed = pool.submit(worker.close)
        while turns._work_queue.qsize() and not turns._shutdown:
            time.sleep(0.005)
        go_on.set()
        closed.result(PATIENCE_S)
        with pytest.raises(EngineDiedError, match="the engine is closed"):
            second.result(PATIENCE_S)
        first.result(PATIENCE_S)
    assert engine.batches == [["a"]]
    assert engine.closed


def test_an_engine_says_whether_it_can_make_a_clip_again(storage: Storage) -> None:
    broken = threading.Event()

    def fault(batch: Sequence[SampleRequest]) -> None:
        if broken.is_set():
            raise ValueError("not any more")

    engine = FakeEngine(fault)
    attempts = runner(engine, storage)._attempts
    assert attempts.again(requests("a")[0]) is True
    broken.set()
    assert attempts.again(requests("a")[0]) is False
    assert engine.batches == [["a"], ["a"]]
