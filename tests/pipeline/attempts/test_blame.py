"""Failures that follow a process, and not a sample, cost no sample; nor may they go on for ever."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa
import pytest

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.blame import BarrenRun, ProcessDoubts
from pipeline.attempts.ledger import Ledger
from pipeline.attempts.second_tries import settled
from pipeline.dataset.schema import Row, to_table
from pipeline.engine.protocol import EngineDiedError
from pipeline.errors import UserError
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import FakeEngine, ledger_of, requests

BAD = ("a", "b", "c")


class Fleet:
    """Processes one after another, as Ray starts them: a task runs again in a fresh one."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        storage: Storage,
        ledger: Ledger,
        engines: Iterable[FakeEngine],
    ) -> None:
        self.patch, self.storage, self.ledger = monkeypatch, storage, ledger
        self.engines = list(engines)
        self.ends = 0
        self.pid = 0
        self._start()

    def _start(self) -> None:
        self.pid += 1
        self.patch.setattr("os.getpid", lambda pid=self.pid: pid)
        engine = self.engines[min(self.pid, len(self.engines)) - 1]
        self.runner = BatchRunner(engine, self.storage, self.ledger, "run", batch_rows=1, node="n")

    def rows(self, *prompts: str) -> Iterable[pa.Table]:
        for prompt in prompts:
            yield to_table(self.row(requests(prompt)))

    def row(self, task: Sequence[SampleRequest]) -> list[Row]:
        while True:
            try:
                return self.runner.process(task)
            except EngineDiedError:
                self.ends += 1
                self._start()

    def run(self, *prompts: str) -> dict[str, str]:
        """The run as its driver sees it: status by prompt."""
        by_id = {requests(prompt)[0].sample_id: prompt for prompt in prompts}

        def elsewhere(ids: Collection[str], nodes: Collection[str]) -> Iterable[pa.Table]:
            if nodes:
                return ()
            self._start()
            return self.rows(*(by_id[sample_id] for sample_id in ids))

        tables = list(settled(self.rows(*prompts), self.ledger, elsewhere))
        found = [row for table in tables for row in table.to_pylist()]
        assert len(found) == len(prompts)
        return {row["caption"]: row["status"] for row in found}


def no_memory(batch: Sequence[SampleRequest]) -> None:
    raise MemoryError("cannot allocate 3 GiB")


def only(*bad: str) -> FakeEngine:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if any(request.prompt in bad for request in batch):
            raise ValueError("cannot draw this")

    return FakeEngine(fault)


def after(calls: int) -> FakeEngine:
    """Fails at every call from a certain one on."""
    engine = FakeEngine()
    engine.fault = lambda batch: no_memory(batch) if len(engine.batches) > calls else None
    return engine


@pytest.mark.parametrize("calls", [0, 1, 4, 38, 39])
def test_a_process_whose_every_call_fails_costs_no_sample(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    prompts = [f"clip {n}" for n in range(40)]
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [after(calls), FakeEngine()])
    assert set(fleet.run(*prompts).values()) == {"ok"}
    assert fleet.ends == (1 if calls < 38 else 0)  # the last ones are tried in another at the end


def test_bad_samples_in_a_row_end_no_process_that_can_make_others(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = only(*"abcdefgh")
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [engine])
    statuses = fleet.run("fine", *"abcdefgh", "last")
    assert statuses == {"fine": "ok", "last": "ok"} | dict.fromkeys("abcdefgh", "failed")
    assert fleet.ends == 0
    assert engine.batches.count(["fine"]) == 3  # and made again after every third bad one


def test_bad_samples_at_the_start_fail_in_two_processes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = only(*BAD)
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [engine])
    assert fleet.run(*BAD, "fine") == dict.fromkeys(BAD, "failed") | {"fine": "ok"}
    assert fleet.ends == 1


def test_a_run_whose_every_process_fails_stops_and_blames_no_sample(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"clip {n}" for n in range(40)]
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [FakeEngine(no_memory)])
    with pytest.raises(UserError, match=r"3 processes in a row ended under 7 .*MemoryError"):
        fleet.run(*prompts)
    again = Fleet(monkeypatch, storage, Ledger(storage, "run2", max_attempts=3), [FakeEngine()])
    assert set(again.run(*prompts).values()) == {"ok"}


def test_who_accepts_every_failure_gets_every_row(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"clip {n}" for n in range(12)]
    ledger = Ledger(storage, "run", max_attempts=2, stops=False)
    fleet = Fleet(monkeypatch, storage, ledger, [FakeEngine(no_memory)])
    assert set(fleet.run(*prompts).values()) == {"failed"}


def test_a_sample_does_not_get_its_attempts_back_for_ever(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [FakeEngine(no_memory)])
    task = requests(*BAD)
    assert [row["status"] for row in fleet.row(task)] == ["failed"] * 3
    assert fleet.ends == 3


def test_what_failed_attempts_cost_is_in_the_row_of_another_process(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(storage)
    ledger.claim(["x"], "n/1")
    ledger.note(["x"], "MemoryError", "no")
    ledger.spent(["x"], 2.5)
    ledger.retry(["x"])
    claim = ledger.claim(["x"], "n/2")
    assert (claim.attempts, claim.lost_s) == ([1], [2.5])


def test_a_process_is_cleared_by_what_it_makes_later_and_not_by_what_it_made_before() -> None:
    doubts = ProcessDoubts()
    doubts.failed("n/1", "a", 5)
    doubts.made("n/1", 4)  # its row came late
    doubts.made("n/2", 9)
    assert doubts.holds("n/1", "a")
    doubts.made("n/1", 6)
    assert not doubts.holds("n/1", "a")


def test_nodes_that_are_taken_away_together_stop_no_run() -> None:
    run = BarrenRun()
    assert not any(run.ended([str(n)], "gone", begun=n, now=100) for n in range(1, 100))
    ends = [run.ended([str(n)], "gone", begun=n, now=n) for n in range(101, 110)]
    assert [bool(end) for end in ends] == [False] * 5 + [True] * 4
    run.made()
    assert not run.ended(["x"], "gone", begun=200, now=200)


def test_a_failed_row_says_what_its_last_error_was(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(monkeypatch, storage, ledger_of(storage), [only("a")])
    (row,) = fleet.row([dataclasses.replace(requests("a")[0])])
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "ValueError", 3)
