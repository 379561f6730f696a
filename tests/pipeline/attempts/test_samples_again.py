"""Samples that were stored elsewhere are made again for their controls, and only for these."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from pipeline.dataset.schema import media_key
from pipeline.engine.protocol import EngineDiedError
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import FakeEngine, ledger_of, requests, runner

CACHE = CacheIdentity("paper", "{}", "hash")


def cached(*prompts: str) -> list[SampleRequest]:
    return [dataclasses.replace(each, cache=CACHE) for each in requests(*prompts)]


def test_a_late_control_is_compared_with_its_sample_made_again(storage: Storage) -> None:
    samples, engine = cached("a", "b"), FakeEngine()
    seen: list[list[CacheIdentity]] = []
    engine.fault = lambda batch: seen.append([each.cache for each in batch])
    rows = runner(engine, storage).process([control_for(each) for each in samples])
    assert engine.batches == [["a", "b"], ["a", "b"]]
    assert seen == [[CACHE, CACHE], [CacheIdentity()] * 2]
    for sample, row in zip(samples, rows, strict=True):
        assert row["control_of"] == sample.sample_id
        assert row["quality"]["psnr_db"] == 100.0
        assert row["quality"]["clip_wall_s"] > 0.0
        assert not storage.exists(media_key(sample.sample_id))
    assert [row["attempts"] for row in rows] == [1, 1]


def test_a_pair_whose_process_ended_in_between_is_compared(storage: Storage) -> None:
    """As after the end of a process: the sample is stored, its frames are gone."""
    ledger, (sample,) = ledger_of(storage), cached("a")
    (stored,) = runner(FakeEngine(), storage, ledger).process([sample])
    engine = FakeEngine()
    taken, control = runner(engine, storage, ledger).process([sample, control_for(sample)])
    assert taken["media_sha256"] == stored["media_sha256"]
    assert engine.batches == [["a"], ["a"]]
    assert control["quality"]["psnr_db"] == 100.0


def test_a_sample_that_failed_is_not_made_again(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(each.cache == CACHE for each in batch):
            raise ValueError("no")

    engine, (sample,) = FakeEngine(fault), cached("a")
    rows = runner(engine, storage).process([sample, control_for(sample)])
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert engine.batches == [["a"]] * 4  # three attempts, and the control
    assert rows[1]["quality"] is None


def test_a_sample_that_cannot_be_made_again_costs_the_comparison_alone(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(each.cache == CACHE for each in batch):
            raise ValueError("no room")

    (row,) = runner(FakeEngine(fault), storage).process([control_for(*cached("a"))])
    assert (row["status"], row["attempts"]) == ("ok", 1)
    assert row["quality"].get("psnr_db") is None
    assert row["quality"]["missing"] == "its clip could not be made again: ValueError: no room"


def test_a_control_that_raises_has_its_sample_made_beside_the_next_attempt(
    storage: Storage,
) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if len(batch) > 1 and batch[0].control_of:
            raise MemoryError("too large together")

    engine = FakeEngine(fault)
    rows = runner(engine, storage).process([control_for(each) for each in cached("a", "b")])
    assert engine.batches == [["a", "b"], ["a", "b"], ["a"], ["a"], ["b"], ["b"]]
    assert [row["batch_rows"] for row in rows] == [1, 1]
    for row in rows:
        assert row["quality"]["psnr_db"] == 100.0
        assert row["times"]["wasted_s"] > 0.0  # the first call, its samples included


def test_a_device_that_is_lost_meanwhile_ends_the_process(storage: Storage) -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(EngineDiedError):
        runner(FakeEngine(fault), storage).process([control_for(*cached("a"))])
