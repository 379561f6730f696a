"""The ledger's entry of one sample, and the file that keeps entries when the ledger dies.

`pipeline.attempts.ledger` decides which attempts are granted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.errors import StorageError
from pipeline.storage.storage import Storage

SUFFIX = ".attempts.json"


@dataclass(slots=True)
class LedgerEntry:
    """What is known of one sample that is under way.

    Attributes:
        attempts: Attempts begun.
        alone: At least one attempt was made alone, not in a batch.
        solo: The latest attempt was made alone, and no death of its process was counted yet.
        where: Node and process of the latest attempt.
        kind: Type of the error that ended it, "" if its process died without a report.
        reason: Text of that error.
        lost_s: Engine seconds of attempts that ended their process, as far as reported.
        made: The engine call of the latest attempt returned; the clip was being stored.
        taken: The latest attempt found the clip of an earlier one, so it shows nothing about its
            node.
        excused: Attempts whose process died while their clip was being stored: the process was
            sampling another clip by then.
        oom_kills: Processes that its node's kernel had killed for lack of memory when the latest
            attempt began.
        pardoned: Its attempts were given back once, because its node had made nothing since.
        number: Of the latest attempt among all attempts of the run.
        places: Processes in which it was begun.
        suspect: It failed in a process that was broken; another one has not tried it yet.
        returns: How often a broken process gave its attempts back.
    """

    attempts: int = 0
    alone: bool = False
    solo: bool = False
    where: str = ""
    kind: str = ""
    reason: str = ""
    lost_s: float = 0.0
    made: bool = False
    taken: bool = False
    excused: int = 0
    oom_kills: int = 0
    pardoned: bool = False
    number: int = 0
    places: int = 0
    suspect: bool = False
    returns: int = 0

    @property
    def node(self) -> str:
        """Node of the latest attempt, "" before the first."""
        return node_of(self.where)

    def describe(self) -> str:
        """How the latest attempt ended, "" if there was none."""
        if not self.attempts:
            return ""
        if self.kind:
            return self.reason
        return f"attempt {self.attempts} on {self.where} ended with the death of its process"

    def pardon(self) -> None:
        """Give the attempts back, because they were the node's fault."""
        self.attempts, self.alone, self.solo, self.excused = 0, False, False, 0
        self.kind, self.reason = "", ""


def node_of(where: str) -> str:
    """The node in a text `node/process`."""
    return where.rpartition("/")[0]


def read_entries(storage: Storage, key: str) -> dict[str, LedgerEntry]:
    """Read the entries of a file, by sample id.

    Raises:
        StorageError: The file cannot be read, or holds no entries.
    """
    try:
        saved = json.loads(storage.read_bytes(key))
        return {sample_id: LedgerEntry(**fields) for sample_id, fields in saved.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{storage.uri}/{key} is damaged ({error}); move it away, at worst a sample that kills "
            "its process gets its attempts again"
        ) from error


def earlier_entries(storage: Storage, own: str, *, forget: bool) -> dict[str, LedgerEntry]:
    """What the files of a prefix say, by sample id.

    A sample that a single process of an earlier run has tried gets its attempts back, because that
    process may have been to blame.

    Args:
        storage: The output prefix.
        own: Key of this run's file, which is there only after a restart of the ledger.
        forget: Leave out what other runs have written.

    Raises:
        StorageError: A file cannot be read, or holds no entries.
    """
    found: dict[str, LedgerEntry] = {}
    if forget:
        keys = [own] if storage.exists(own) else []
    else:
        keys = [entry.key for entry in storage.list("runs") if entry.key.endswith(SUFFIX)]
    for key in keys:
        for sample_id, entry in read_entries(storage, key).items():
            if key != own and entry.places == 1 and entry.kind:
                entry.pardon()
            if entry.attempts > found.get(sample_id, LedgerEntry()).attempts:
                found[sample_id] = entry
    return found


def write_entries(storage: Storage, key: str, entries: Mapping[str, LedgerEntry]) -> None:
    """Write entries to a file for `read_entries`."""
    saved = {sample_id: asdict(entry) for sample_id, entry in entries.items()}
    storage.put_bytes(key, json.dumps(saved, sort_keys=True).encode())
