"""Which sample the seconds of an engine call are charged to."""

import dataclasses
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.dataset import mp4
from pipeline.engine.protocol import Clip, EngineDiedError
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


def test_what_a_lost_engine_cost_is_in_the_row_that_another_makes(storage: Storage) -> None:
    def die(batch: Sequence[SampleRequest]) -> None:
        time.sleep(0.05)
        raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    for _ in range(2):
        with pytest.raises(EngineDiedError):
            runner(FakeEngine(die), storage, ledger).process(requests("a"))
    (row,) = runner(FakeEngine(), storage, ledger).process(requests("a"))
    assert (row["status"], row["attempts"]) == ("ok", 3)
    assert row["times"]["wasted_s"] >= 0.1


def test_who_waits_for_its_turn_is_not_charged_for_a_death(storage: Storage) -> None:
    (killer,), (waiting,) = requests("killer"), requests("waiting")
    begun, queued = threading.Event(), threading.Event()

    def fault(batch: Sequence[SampleRequest]) -> None:
        begun.set()
        assert queued.wait(PATIENCE_S)
        raise EngineDiedError("gone")

    ledger = ledger_of(storage)
    worker = runner(FakeEngine(fault), storage, ledger)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(worker.process, [killer])
        assert begun.wait(PATIENCE_S)
        second = pool.submit(worker.process, [waiting])
        queued.set()
        for each in (first, second):
            with pytest.raises(EngineDiedError, match="gone"):
                each.result(PATIENCE_S)
    assert ledger.claim([killer.sample_id], "n/2").attempts == [2]
    assert ledger.claim([waiting.sample_id], "n/2").attempts == [1]


def test_a_row_says_where_its_seconds_went(storage: Storage) -> None:
    failures = iter([ValueError("once")])

    def fault(batch: Sequence[SampleRequest]) -> None:
        time.sleep(0.01)
        for error in failures:
            raise error

    (row,) = runner(FakeEngine(fault), storage).process(requests("a"))
    times, worker = row["times"], row["worker"]
    parts = times["text_s"] + times["denoise_s"] + times["decode_s"]
    assert parts == pytest.approx(row["wall_s"])
    assert times["wasted_s"] >= 0.01
    spent = row["wall_s"] + times["wasted_s"]
    assert worker["load_s"] + spent <= worker["up_s"]


def test_an_engine_call_whose_clip_could_not_be_stored_is_wasted(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, failures = mp4.encode, iter([ValueError("once"), ValueError("twice")])

    def picky(*args: Any, **options: Any) -> bytes:
        for error in failures:
            raise error
        return encode(*args, **options)

    monkeypatch.setattr(mp4, "encode", picky)
    worker = runner(FakeEngine(lambda batch: time.sleep(0.02)), storage)
    (row,) = worker.process(requests("a"))
    assert (row["status"], row["attempts"]) == ("ok", 3)
    assert row["times"]["wasted_s"] >= 0.04
    (other,) = worker.process(requests("b"))
    assert other["times"]["wasted_s"] == 0


class TimedEngine(FakeEngine):
    """Says what its calls took, and sleeps for longer than that."""

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        clips = super().generate(requests)
        time.sleep(0.05)
        return [dataclasses.replace(clip, text_s=0.02, decode_s=0.01) for clip in clips]


def test_the_clips_of_a_call_share_its_seconds(storage: Storage) -> None:
    for row in runner(TimedEngine(), storage).process(requests("a", "b")):
        times = row["times"]
        assert (times["text_s"], times["decode_s"]) == (0.01, 0.005)
        assert times["denoise_s"] == pytest.approx(row["wall_s"] - 0.015)
        assert row["peak_memory_bytes"] == 123


def test_a_failed_row_claims_no_seconds_and_no_memory(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise ValueError("always")

    (row,) = runner(FakeEngine(fault), storage).process(requests("a"))
    assert (row["status"], row["wall_s"], row["peak_memory_bytes"]) == ("failed", 0.0, 0)
    parts = ("text_s", "denoise_s", "decode_s")
    assert [row["times"][part] for part in parts] == [0.0, 0.0, 0.0]


@pytest.mark.slow
def test_an_overdue_call_costs_its_samples_the_deadline_together(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr("os._exit", lambda _: ended.set())
    ledger, pair = ledger_of(storage), requests("a", "b")
    engine = FakeEngine(lambda batch: assert_true(ended.wait(PATIENCE_S)))
    attempts = BatchRunner(engine, storage, ledger, "run", batch_rows=2, deadline_s=0.5)._attempts
    attempts.together(pair)
    for sample in pair:
        assert ledger.claim([sample.sample_id], "n/2").lost_s == [0.25]
