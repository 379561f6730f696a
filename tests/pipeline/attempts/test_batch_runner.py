import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.dataset import mp4
from pipeline.dataset.schema import to_table
from pipeline.errors import UserError
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import (
    BASE,
    FakeEngine,
    ledger_of,
    requests,
    runner,
)


def test_only_requests_that_agree_share_a_call(storage: Storage) -> None:
    engine = FakeEngine()
    mixed = [
        *requests("a"),
        dataclasses.replace(BASE, prompt="wide", width=48),
        *requests("b"),
    ]
    rows = runner(engine, storage).process(mixed)
    assert engine.batches == [["a", "b"], ["wide"]]
    assert [row["caption"] for row in rows] == ["a", "wide", "b"]


def test_one_bad_row_fails_alone_after_its_attempts(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "bad" for request in batch):
            raise ValueError("cannot draw\nthis")

    engine = FakeEngine(fault)
    rows = runner(engine, storage).process(requests("a", "bad", "b"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    bad = rows[1]
    assert (bad["error_type"], bad["error_message"]) == ("ValueError", "cannot draw this")
    assert (bad["attempts"], bad["video"], bad["media_bytes"]) == (3, None, 0)
    assert engine.batches == [["a", "bad", "b"], ["a"], *[["bad"]] * 3, ["b"]]
    assert to_table(rows).num_rows == 3


def test_a_task_of_many_samples_makes_calls_of_batch_rows(storage: Storage) -> None:
    engine = FakeEngine()
    rows = runner(engine, storage).process(requests(*"abcdefgh"))
    assert engine.batches == [list("abc"), list("def"), list("gh")]
    assert [row["caption"] for row in rows] == list("abcdefgh")


def test_one_attempt_is_enough_for_the_innocent(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt == "bad" for request in batch):
            raise ValueError("no")

    ledger = ledger_of(storage, max_attempts=1)
    rows = runner(FakeEngine(fault), storage, ledger).process(requests("a", "bad", "b"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert [row["attempts"] for row in rows] == [1, 1, 1]


def test_settings_that_no_sample_is_to_blame_for_stop_the_run(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise UserError("the profile does not fit")

    engine = FakeEngine(fault)
    with pytest.raises(UserError, match="does not fit"):
        runner(engine, storage).process(requests("a", "b"))
    assert engine.batches == [["a", "b"]]


def test_a_batch_is_retried_after_its_exception_is_gone(storage: Storage) -> None:
    seen: list[BaseException | None] = []

    def fault(batch: Sequence[SampleRequest]) -> None:
        seen.append(sys.exc_info()[1])
        if len(batch) > 1:
            raise MemoryError("too large together")

    rows = runner(FakeEngine(fault), storage).process(requests("a", "b"))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert seen == [None, None, None]


def test_a_clip_that_cannot_be_encoded_does_not_cost_its_neighbours_a_second_call(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = mp4.encode

    def picky(frames: mp4.Frames, fps: int, row: dict[str, object], **options: Any) -> bytes:
        if row["caption"] == "b":
            raise ValueError("cannot encode\nthis")
        return encode(frames, fps, row, **options)

    monkeypatch.setattr(mp4, "encode", picky)
    engine = FakeEngine()
    rows = runner(engine, storage).process(requests("a", "b", "c"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert (rows[1]["error_type"], rows[1]["error_message"]) == ("ValueError", "cannot encode this")
    assert rows[1]["attempts"] == 3
    assert engine.batches == [["a", "b", "c"], ["b"], ["b"]]


def test_a_pair_is_made_in_calls_of_its_own_and_compared_before_the_mp4(storage: Storage) -> None:
    cached = [
        dataclasses.replace(request, cache=CacheIdentity("paper", "{}", "hash"))
        for request in requests(*"abcd")
    ]
    controls = [control_for(cached[1]), control_for(cached[3])]
    engine = FakeEngine()
    rows = runner(engine, storage).process([*cached, *controls])
    assert engine.batches == [["a", "c"], ["b", "d"], ["b", "d"]]
    twins = [cached[1].sample_id, cached[3].sample_id]
    assert [row["control_of"] for row in rows] == ["", "", "", "", *twins]
    assert [row["quality"] for row in rows[:4]] == [None] * 4
    for row in rows[4:]:
        assert row["quality"]["psnr_db"] == 100.0
        assert row["quality"]["ssim"] == pytest.approx(1.0)
        stored = mp4.read_row(storage.read_bytes(row["video"]["path"]))
        assert stored["quality"] == row["quality"]
        assert row["quality"]["clip_wall_s"] is None  # the time of the clip is in its own row


def test_a_task_that_runs_again_though_its_rows_have_arrived_draws_nothing(
    storage: Storage,
) -> None:
    """Ray runs a task again if its node dies between its rows and its end."""
    ledger, again = ledger_of(storage), FakeEngine()
    task = requests(*"abcde")
    rows = runner(FakeEngine(), storage, ledger).process(task)
    ledger.finish([row["sample_id"] for row in rows], [row["status"] for row in rows])
    taken = runner(again, storage, ledger).process(task)
    assert again.batches == []
    assert [row["media_sha256"] for row in taken] == [row["media_sha256"] for row in rows]
