"""What the ledger knows of one sample that is under way, and the file that outlives the ledger.

Which attempts are granted is decided in `pipeline.attempts.ledger`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.errors import StorageError
from pipeline.storage.storage import Storage


@dataclass(slots=True)
class LedgerEntry:
    """What is known of one sample that is under way.

    Attributes:
        attempts: Attempts begun.
        alone: One of them was made alone, not in a batch.
        solo: The latest was.
        where: Node and process of the latest attempt.
        kind: Type of the error that ended it, "" if its process died without a word.
        reason: Its text.
        lost_s: Engine seconds of attempts that ended their process, as far as it could tell.
        made: The engine call of the latest attempt returned; it was being stored.
        taken: The latest attempt found the clip of an earlier one: it says nothing of its node.
        excused: Attempts that ended so: whatever killed the process then, it sampled another.
        oom_kills: Of its node's kernel, when the latest attempt began.
        pardoned: It had its attempts back because its node had made nothing in between.
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
        """Give the attempts back: they were its node's fault."""
        self.attempts, self.alone, self.solo, self.excused = 0, False, False, 0
        self.kind, self.reason = "", ""


def node_of(where: str) -> str:
    """The node of a node and process."""
    return where.rpartition("/")[0]


def read_entries(storage: Storage, key: str) -> dict[str, LedgerEntry]:
    """The entries of a file, by sample id.

    Raises:
        StorageError: The file cannot be read, or is no such file.
    """
    try:
        saved = json.loads(storage.read_bytes(key))
        return {sample_id: LedgerEntry(**fields) for sample_id, fields in saved.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{storage.uri}/{key} is damaged ({error}); move it away, at worst a sample that kills "
            "its process gets its attempts again"
        ) from error


def write_entries(storage: Storage, key: str, entries: Mapping[str, LedgerEntry]) -> None:
    """Write a file that `read_entries` reads."""
    saved = {sample_id: asdict(entry) for sample_id, entry in entries.items()}
    storage.put_bytes(key, json.dumps(saved, sort_keys=True).encode())
