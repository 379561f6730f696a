import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.attempts import ledger as ledger_module
from pipeline.attempts.ledger import Ledger
from pipeline.errors import StorageError
from pipeline.process import oom_kills
from pipeline.storage.storage import Storage


def ledger_of(storage: Storage, run_id: str, *, forget: bool = False) -> Ledger:
    return Ledger(storage, run_id, max_attempts=10, forget=forget)


def test_an_attempt_is_counted_before_it_runs(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    assert ledger.claim(["a"], "n/1").attempts == [1]
    assert ledger.claim(["a"], "n/2").attempts == [2]


def test_a_task_that_runs_again_after_its_rows_arrived_has_a_history(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    assert ledger.claim(["a", "b"], "n/1").granted
    ledger.made(["a", "b"])
    ledger.finish(["a", "b"], ["ok", "ok"])
    again = ledger.claim(["a", "b"], "m/1")
    assert (again.granted, again.attempts) == (False, [1, 1])
    assert ledger.claim(["a"], "m/1").attempts == [2]


def test_finished_samples_are_forgotten_in_the_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "RECENT", 3)
    ledger = ledger_of(storage, "r1")
    for sample_id in "abcde":
        ledger.claim([sample_id], "n/1")
        ledger.finish([sample_id], ["ok"])
    begun = [ledger.claim([sample_id], "m/1").attempts for sample_id in "abcde"]
    assert begun == [[1], [1], [2], [2], [2]]


def test_a_batch_with_a_history_is_refused_and_counts_nothing(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    assert ledger.claim(["a", "b"], "n/1").granted
    again = ledger.claim(["a", "b", "c"], "n/2")
    assert not again.granted
    assert again.attempts == [1, 1, 0]
    assert ledger.claim(["c"], "n/2").attempts == [1]


def test_the_last_attempt_is_described_by_its_error_or_as_a_death(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    assert ledger.claim(["a"], "node-7/41").reason == ""
    second = ledger.claim(["a"], "node-7/42")
    assert second.reason == "attempt 1 on node-7/41 ended with the death of its process"
    ledger.note(["a"], "ValueError", "cannot draw")
    third = ledger.claim(["a"], "x/1")
    assert (third.kind, third.reason) == ("ValueError", "cannot draw")


def test_attempts_are_used_up_and_then_nothing_changes_any_more(storage: Storage) -> None:
    ledger = Ledger(storage, "r1", max_attempts=2)
    for expected in (1, 2):
        claim = ledger.claim(["a"], "n/1")
        assert (claim.granted, claim.attempts) == (True, [expected])
        ledger.note(["a"], "ValueError", "cannot draw")
    for _ in range(2):
        claim = ledger.claim(["a"], "n/9")
        assert (claim.granted, claim.attempts) == (False, [2])
        assert (claim.kind, claim.reason) == ("ValueError", "cannot draw")


def test_who_was_being_stored_is_excused_from_a_death_but_not_for_ever(storage: Storage) -> None:
    ledger = Ledger(storage, "r1", max_attempts=2)
    for attempt in (1, 2, 3, 4):
        claim = ledger.claim(["a"], "n/1")
        assert (claim.granted, claim.attempts) == (True, [attempt])
        ledger.made(["a"])  # the process dies while it stores
    assert not ledger.claim(["a"], "n/1").granted


def test_an_error_of_storing_is_no_excuse(storage: Storage) -> None:
    ledger = Ledger(storage, "r1", max_attempts=1)
    ledger.claim(["a"], "n/1")
    ledger.made(["a"])
    ledger.note(["a"], "ValueError", "cannot encode")
    assert not ledger.claim(["a"], "n/1").granted


def test_no_sample_is_given_up_for_what_its_batch_did(storage: Storage) -> None:
    ledger = Ledger(storage, "r1", max_attempts=1)
    ledger.claim(["a", "b"], "n/1")  # the process dies
    assert not ledger.claim(["a", "b"], "n/2").granted
    assert ledger.claim(["a"], "n/2").granted
    assert not ledger.claim(["a"], "n/3").granted


def test_a_batch_that_raised_costs_its_samples_nothing(storage: Storage) -> None:
    ledger = Ledger(storage, "r1", max_attempts=1)
    ledger.claim(["a", "b"], "n/1")
    ledger.release(["a", "b"])
    assert ledger.claim(["a"], "n/1").attempts == [1]
    assert storage.list() == []


def test_the_first_complaint_is_kept(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    assert ledger.complaint() == ""
    ledger.complain("disk full")
    ledger.complain("and another thing")
    assert ledger.complaint() == "disk full"


def test_a_damaged_file_is_named(storage: Storage) -> None:
    storage.put_bytes("runs/r0.attempts.json", b"{")
    with pytest.raises(StorageError, match=r"r0\.attempts\.json is damaged"):
        ledger_of(storage, "r1")


def test_nothing_is_written_while_nothing_dies(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    for number in range(50):
        ledger.claim([str(number)], "n/1")
        ledger.finish([str(number)])
    assert storage.list() == []


def test_deaths_survive_the_ledger_itself_and_later_runs(storage: Storage) -> None:
    first = ledger_of(storage, "r1")
    first.claim(["poison"], "n/1")
    first.claim(["poison"], "n/2")
    assert ledger_of(storage, "r1").claim(["poison"], "n/3").attempts == [3]
    assert ledger_of(storage, "r2").claim(["poison"], "n/3").attempts == [4]
    saved = json.loads(storage.read_bytes("runs/r1.attempts.json"))
    assert saved["poison"]["attempts"] == 3


def test_retry_failed_gives_attempts_back_but_not_after_a_restart_of_its_own(
    storage: Storage,
) -> None:
    old = ledger_of(storage, "r1")
    for _ in range(3):
        old.claim(["poison"], "n/1")
    fresh = ledger_of(storage, "r2", forget=True)
    assert fresh.claim(["poison"], "n/1").attempts == [1]
    fresh.claim(["poison"], "n/1")
    restarted = ledger_of(storage, "r2", forget=True)
    assert restarted.claim(["poison"], "n/1").attempts == [3]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=20))
def test_single_claims_agree_with_a_counter(events: list[tuple[str, bool]]) -> None:
    ledger = ledger_of(Storage(f"memory://ledger-{uuid.uuid4().hex}"), "r")
    counts: dict[str, int] = {}
    for sample_id, finishes in events:
        counts[sample_id] = min(10, counts.get(sample_id, 0) + 1)
        assert ledger.claim([sample_id], "n/1").attempts == [counts[sample_id]]
        if finishes:
            ledger.finish([sample_id])  # a further claim comes of a task that runs again


def test_a_death_while_the_kernel_killed_for_want_of_memory_says_so(storage: Storage) -> None:
    ledger = ledger_of(storage, "r1")
    ledger.claim(["a"], "node/1", 4)
    told = ledger.claim(["a"], "node/2", 5)
    assert told.kind == "OutOfMemory"
    assert told.reason.startswith("attempt 1 on node/1 ended with the death of its process, while")
    assert ledger.claim(["a"], "node/3", 5).kind == ""
    assert ledger.claim(["a"], "other/1", 9).kind == ""  # another node's kernel
    ledger.note(["a"], "ValueError", "no")
    assert ledger.claim(["a"], "other/1", 99).kind == "ValueError"


def test_the_kernel_is_asked_without_harm() -> None:
    assert oom_kills() >= 0
