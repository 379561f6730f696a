import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Ledger
from pipeline.storage import Storage


@pytest.fixture
def storage() -> Storage:
    return Storage(f"memory://ledger-{uuid.uuid4().hex}")


def test_an_attempt_is_counted_before_it_runs_and_forgotten_when_finished(storage: Storage) -> None:
    ledger = Ledger(storage, "r1")
    assert ledger.claim(["a"], "n/1").attempts == [1]
    assert ledger.claim(["a"], "n/2").attempts == [2]
    ledger.finish(["a"])
    assert ledger.claim(["a"], "n/3").attempts == [1]


def test_a_batch_with_a_history_is_refused_and_counts_nothing(storage: Storage) -> None:
    ledger = Ledger(storage, "r1")
    assert ledger.claim(["a", "b"], "n/1").granted
    again = ledger.claim(["a", "b", "c"], "n/2")
    assert not again.granted
    assert again.attempts == [1, 1, 0]
    assert ledger.claim(["c"], "n/2").attempts == [1]


def test_the_last_attempt_is_described_by_its_reason_or_as_a_death(storage: Storage) -> None:
    ledger = Ledger(storage, "r1")
    ledger.claim(["a"], "node-7/41")
    second = ledger.claim(["a"], "node-7/42")
    assert second.last == ["attempt 1 on node-7/41 ended with the death of its process"]
    ledger.note(["a"], "out of memory")
    assert ledger.claim(["a"], "x/1").last == ["attempt 2 on node-7/42: out of memory"]


def test_nothing_is_written_while_nothing_dies(storage: Storage) -> None:
    ledger = Ledger(storage, "r1")
    for number in range(50):
        ledger.claim([str(number)], "n/1")
        ledger.finish([str(number)])
    assert storage.list() == []


def test_deaths_survive_the_ledger_itself_and_later_runs(storage: Storage) -> None:
    first = Ledger(storage, "r1")
    first.claim(["poison"], "n/1")
    first.claim(["poison"], "n/2")
    assert Ledger(storage, "r1").claim(["poison"], "n/3").attempts == [3]
    assert Ledger(storage, "r2").claim(["poison"], "n/3").attempts == [4]
    saved = json.loads(storage.read_bytes("runs/r1.attempts.json"))
    assert saved["poison"]["attempts"] == 3


def test_retry_failed_gives_attempts_back_but_not_after_a_restart_of_its_own(
    storage: Storage,
) -> None:
    old = Ledger(storage, "r1")
    for _ in range(3):
        old.claim(["poison"], "n/1")
    fresh = Ledger(storage, "r2", forget=True)
    assert fresh.claim(["poison"], "n/1").attempts == [1]
    fresh.claim(["poison"], "n/1")
    restarted = Ledger(storage, "r2", forget=True)
    assert restarted.claim(["poison"], "n/1").attempts == [3]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=40))
def test_single_claims_agree_with_a_counter(events: list[tuple[str, bool]]) -> None:
    ledger = Ledger(Storage(f"memory://ledger-{uuid.uuid4().hex}"), "r")
    counts: dict[str, int] = {}
    for sample_id, finishes in events:
        counts[sample_id] = counts.get(sample_id, 0) + 1
        assert ledger.claim([sample_id], "n/1").attempts == [counts[sample_id]]
        if finishes:
            ledger.finish([sample_id])
            del counts[sample_id]
