"""Attempts per sample: bounds what a sample that kills its process may cost.

A worker that dies takes its memory with it, and Ray retries its task for ever, so the count must
live elsewhere and must know of an attempt before the attempt begins. The ledger is a plain class;
`pipeline.run` puts one instance into a Ray actor beside the driver. It holds only samples that are
under way or have a death behind them, and writes to storage only when a death shows (a second
attempt is asked for), so that in steady state it costs no object-store request at all.

It does not know why a process died; the worker notes a reason if it still can.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.storage import Storage

SUFFIX = ".attempts.json"


@dataclass(slots=True)
class Entry:
    """What is known of one sample that is under way.

    Attributes:
        attempts: Attempts begun.
        where: Node and process of the latest attempt.
        reason: What the worker said of the latest attempt before it gave up, "" if it could not.
    """

    attempts: int = 0
    where: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a worker that wants to run a batch.

    Attributes:
        granted: The attempt is recorded; run the batch in one engine call.
        attempts: Attempts begun so far per sample, this one included where granted.
        last: What is known of the previous attempt per sample, "" for a first one.
    """

    granted: bool
    attempts: list[int] = field(default_factory=list)
    last: list[str] = field(default_factory=list)


class Ledger:
    """Counts attempts; survives workers in memory and its own death through storage."""

    def __init__(self, storage: Storage, run_id: str, *, forget: bool = False) -> None:
        """Open the ledger of an output prefix.

        Args:
            storage: The output prefix.
            run_id: Names this run's file, `runs/{run_id}.attempts.json`.
            forget: Start from zero: failed samples get their attempts back (`--retry-failed`).
        """
        self._storage = storage
        self._key = f"runs/{run_id}{SUFFIX}"
        self._entries: dict[str, Entry] = {}
        own = storage.exists(self._key)  # true only after a restart of this very ledger
        if own or not forget:
            keys = [entry.key for entry in storage.list("runs") if entry.key.endswith(SUFFIX)]
            for key in [self._key] if forget else keys:
                for sample_id, saved in json.loads(storage.read_bytes(key)).items():
                    entry = self._entries.setdefault(sample_id, Entry())
                    if saved["attempts"] > entry.attempts:
                        self._entries[sample_id] = Entry(**saved)

    def claim(self, sample_ids: Sequence[str], where: str) -> Claim:
        """Ask to run samples together, before the first of them starts.

        A batch in which any sample has been begun before is not granted: its samples must be
        claimed one by one, so that a poison sample takes its neighbours down once at most.

        Args:
            sample_ids: The batch.
            where: Node and process that ask, for the error message of a later failure.

        Returns:
            The claim. A batch of one is always granted.
        """
        entries = [self._entries.setdefault(sample_id, Entry()) for sample_id in sample_ids]
        last = [_describe(entry) for entry in entries]
        if len(entries) > 1 and any(entry.attempts for entry in entries):
            return Claim(False, [entry.attempts for entry in entries], last)
        again = False
        for entry in entries:
            again |= entry.attempts > 0
            entry.attempts += 1
            entry.where, entry.reason = where, ""
        if again:
            self._save()
        return Claim(True, [entry.attempts for entry in entries], last)

    def note(self, sample_ids: Sequence[str], reason: str) -> None:
        """Record why the latest attempt of these samples ended, while the worker still can."""
        for sample_id in sample_ids:
            if sample_id in self._entries:
                self._entries[sample_id].reason = reason

    def finish(self, sample_ids: Sequence[str]) -> None:
        """Forget samples that have their final row."""
        for sample_id in sample_ids:
            self._entries.pop(sample_id, None)

    def _save(self) -> None:
        suspects = {
            sample_id: {"attempts": e.attempts, "where": e.where, "reason": e.reason}
            for sample_id, e in self._entries.items()
            if e.attempts > 1
        }
        self._storage.put_bytes(self._key, json.dumps(suspects, sort_keys=True).encode())


def _describe(entry: Entry) -> str:
    if not entry.attempts:
        return ""
    if entry.reason:
        return f"attempt {entry.attempts} on {entry.where}: {entry.reason}"
    return f"attempt {entry.attempts} on {entry.where} ended with the death of its process"
