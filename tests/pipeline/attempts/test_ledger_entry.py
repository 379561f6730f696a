from __future__ import annotations

import uuid

import pytest

from pipeline.attempts.ledger_entry import (
    LedgerEntry,
    earlier_entries,
    node_of,
    read_entries,
    write_entries,
)
from pipeline.errors import StorageError
from pipeline.storage.storage import Storage

KEY = "runs/r.attempts.json"


@pytest.fixture
def storage() -> Storage:
    return Storage(f"memory://entries-{uuid.uuid4().hex}")


def test_entries_are_read_as_they_were_written(storage: Storage) -> None:
    entries = {
        "a": LedgerEntry(
            2, alone=True, where="host:ab/7", kind="GroupError", reason="gone", lost_s=1.5
        ),
        "b": LedgerEntry(3, made=True, taken=True, excused=1, oom_kills=4, pardoned=True),
    }
    write_entries(storage, KEY, entries)
    assert read_entries(storage, KEY) == entries


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"a": 1}', b'{"a": {"tries": 1}}'])
def test_a_file_of_another_kind_is_named(storage: Storage, text: bytes) -> None:
    storage.put_bytes(KEY, text)
    with pytest.raises(StorageError, match=r"r\.attempts\.json is damaged .*; move it away"):
        read_entries(storage, KEY)


def test_an_entry_says_how_its_latest_attempt_ended() -> None:
    assert (LedgerEntry().describe(), LedgerEntry().node) == ("", "")
    entry = LedgerEntry(2, where="host:ab/7")
    assert entry.describe() == "attempt 2 on host:ab/7 ended with the death of its process"
    entry.kind, entry.reason = "GroupError", "a rank died"
    assert entry.describe() == "a rank died"
    assert entry.node == node_of("host:ab/9") == "host:ab"


def test_a_pardoned_entry_has_its_attempts_back_and_keeps_what_it_cost() -> None:
    entry = LedgerEntry(2, True, True, "host:ab/7", "GroupError", "a rank died", 1.5, excused=1)
    entry.pardon()
    assert entry == LedgerEntry(where="host:ab/7", lost_s=1.5)


def test_entries_of_earlier_runs_are_those_with_most_attempts(storage: Storage) -> None:
    write_entries(storage, "runs/a.attempts.json", {"s": LedgerEntry(2), "t": LedgerEntry(1)})
    write_entries(storage, "runs/b.attempts.json", {"s": LedgerEntry(1), "t": LedgerEntry(4)})
    write_entries(storage, KEY, {"s": LedgerEntry(3, places=1, kind="ValueError")})
    storage.put_bytes("runs/a.json", b"not read")
    storage.put_bytes("data/x.attempts.json", b"not read")
    found = earlier_entries(storage, KEY, forget=False)
    assert {name: entry.attempts for name, entry in found.items()} == {"s": 3, "t": 4}
    own = earlier_entries(storage, KEY, forget=True)
    assert own == {"s": LedgerEntry(3, places=1, kind="ValueError")}
    assert earlier_entries(storage, "runs/new.attempts.json", forget=True) == {}


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (LedgerEntry(3, places=1, kind="ValueError"), False),  # one process, which may be to blame
        (LedgerEntry(3, places=2, kind="ValueError"), True),
        (LedgerEntry(3, places=1), True),  # its process died
        (LedgerEntry(3, places=0, kind="ValueError"), True),  # of an older version
    ],
)
def test_what_one_process_of_an_earlier_run_failed_at_gets_its_attempts_back(
    storage: Storage, entry: LedgerEntry, kept: bool
) -> None:
    write_entries(storage, "runs/a.attempts.json", {"s": entry})
    assert ("s" in earlier_entries(storage, KEY, forget=False)) == kept


def test_a_file_of_entries_is_the_same_for_the_same_entries(storage: Storage) -> None:
    entries = {"b": LedgerEntry(1), "a": LedgerEntry(2)}
    write_entries(storage, KEY, entries)
    one = storage.read_bytes(KEY)
    write_entries(storage, KEY, dict(reversed(entries.items())))
    assert storage.read_bytes(KEY) == one


def test_a_damaged_file_is_named_with_what_to_do(storage: Storage) -> None:
    storage.put_bytes(KEY, b'{"a": 1}')
    with pytest.raises(StorageError) as caught:
        read_entries(storage, KEY)
    assert str(caught.value).startswith(f"{storage.uri}/{KEY} is damaged (")
    assert str(caught.value).endswith(
        "; move it away, at worst a sample that kills its process gets its attempts again"
    )


def test_a_node_is_all_before_the_last_slash() -> None:
    assert node_of("host:ab/7") == "host:ab"
    assert node_of("a/b/7") == "a/b"
    assert node_of("") == ""
