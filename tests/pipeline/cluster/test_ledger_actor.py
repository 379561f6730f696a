"""The ledger behind a Ray actor, without Ray: which calls it receives, and in which order."""

from __future__ import annotations

import pickle
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pipeline.cluster.ledger_actor import LedgerActor, RemoteLedger
from pipeline.storage.storage import Storage


class Handle:
    """Runs the calls of an actor at once, and counts them."""

    def __init__(self, ledger: LedgerActor) -> None:
        self.calls = 0
        self.after = SimpleNamespace(remote=self._run)
        self._ledger = ledger

    def _run(self, *args: Any) -> Any:
        self.calls += 1
        return self._ledger.after(*args)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> RemoteLedger:
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    storage = Storage(f"memory://actor-{uuid.uuid4().hex}")
    return RemoteLedger(Handle(LedgerActor(storage, "run", max_attempts=1)))


def test_a_sample_costs_one_message(ledger: RemoteLedger) -> None:
    for name in "abc":
        assert ledger.claim([name], "n/1").attempts == [1]
        ledger.made([name])
    assert ledger._handle.calls == 3


def test_an_error_of_storing_comes_after_the_end_of_the_engine_call(ledger: RemoteLedger) -> None:
    ledger.claim(["a"], "n/1")
    ledger.made(["a"])
    ledger.note(["a"], "ValueError", "cannot encode")
    refused = ledger.claim(["a"], "n/1")
    assert (refused.granted, refused.reason) == (False, "cannot encode")  # no excuse


def test_a_batch_that_is_taken_back_is_so_before_its_samples_are_claimed(
    ledger: RemoteLedger,
) -> None:
    ledger.claim(["a", "b"], "n/1")
    ledger.release(["a", "b"])
    assert ledger.claim(["a"], "n/1").attempts == [1]


def test_it_travels_to_workers_without_what_it_has_not_said(ledger: RemoteLedger) -> None:
    ledger._handle = None
    ledger.made(["a"])
    assert pickle.loads(pickle.dumps(ledger))._events == []
