from __future__ import annotations

import uuid

import pytest

from pipeline.attempts.ledger_entry import (
    LedgerEntry,
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
