"""Counts the attempts of each sample across process deaths, and limits them.

A worker that dies loses its memory, and Ray retries its task for ever. So the count lives outside
of the workers, and an attempt is recorded before it begins. The ledger is a plain class;
`pipeline.cluster.ledger_actor` puts one instance into a Ray actor beside the driver. It holds the
samples that are under way, have seen a death, or were finished just now. It writes to storage only
when a second attempt is asked for, which shows a death; otherwise it costs no object-store request.

The ledger does not know why a process died; the worker records an error if it still can.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.attempts.bad_nodes import BadNodes
from pipeline.attempts.ledger_entry import (
    LedgerEntry,
    node_of,
    read_entries,
    write_entries,
)
from pipeline.storage.storage import Storage

_logger = logging.getLogger(__name__)

SUFFIX = ".attempts.json"

RECENT = 20_000
"""Finished samples that the ledger remembers; a node's death is known within seconds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a worker that wants to run a batch.

    Attributes:
        granted: The attempt is recorded and may begin. Otherwise the samples of a batch must be
            claimed one by one, and a single sample has used up its attempts.
        attempts: Attempts begun so far per sample, this one included where granted.
        kind: Type of the error that ended the previous attempt of the first sample.
        reason: What is known of that attempt, "" if there was none.
        lost_s: Engine seconds per sample of attempts that ended their process.
        bad_node: Not granted because this node is bad.
    """

    granted: bool
    attempts: list[int]
    kind: str
    reason: str
    lost_s: list[float] = field(default_factory=list)
    bad_node: bool = False


class Ledger:
    """Counts attempts; outlives workers in memory, and its own death through storage."""

    def __init__(
        self, storage: Storage, run_id: str, *, max_attempts: int, forget: bool = False
    ) -> None:
        """Open the ledger of an output prefix.

        Args:
            storage: The output prefix.
            run_id: Names this run's file, `runs/{run_id}.attempts.json`.
            max_attempts: Attempts per sample. At least one of them is made alone, so that a sample
                does not fail because of a neighbour in its batch.
            forget: Start from zero: failed samples get their attempts back (`--retry-failed`).

        Raises:
            StorageError: The attempts of earlier runs cannot be read.
        """
        self._storage = storage
        self._key = f"runs/{run_id}{SUFFIX}"
        self._max_attempts = max_attempts
        self._entries: dict[str, LedgerEntry] = {}
        self._finished: dict[str, LedgerEntry] = {}
        self._complaint = ""
        self._bad_nodes = BadNodes()
        own = storage.exists(self._key)  # true only after a restart of this very ledger
        if own or not forget:
            keys = [entry.key for entry in storage.list("runs") if entry.key.endswith(SUFFIX)]
            for key in [self._key] if forget else keys:
                for sample_id, entry in read_entries(storage, key).items():
                    known = self._entries.get(sample_id, LedgerEntry())
                    if entry.attempts > known.attempts:
                        self._entries[sample_id] = entry

    def claim(self, sample_ids: Sequence[str], where: str, oom_kills: int = 0) -> Claim:
        """Ask to run samples together, before the first of them starts.

        A batch with a sample that was begun before is not granted: its samples must be claimed one
        by one, so that a poison sample kills its neighbours once at most.

        A claim that is not granted counts nothing. An attempt whose process died while its clip
        was being stored is excused, because the process was sampling another clip by then; at most
        `max_attempts` times, because the storing may be what killed it.

        Args:
            sample_ids: The batch.
            where: Node and process of the worker, for the error message of a later failure.
            oom_kills: Processes that this node's kernel has killed for lack of memory so far.
        """
        entries = [self._entry(sample_id) for sample_id in sample_ids]
        for sample_id, entry in zip(sample_ids, entries, strict=True):
            self._record_death(sample_id, entry, where, oom_kills)
        if self._bad_nodes.is_bad(node_of(where)):
            begun = [entry.attempts for entry in entries]
            return Claim(False, begun, "", "", bad_node=True)
        alone = len(entries) == 1
        if alone and entries[0].made:  # a batch is not granted then, and counts nothing
            entries[0].excused += entries[0].excused < self._max_attempts
            entries[0].made = False
        kind, reason = entries[0].kind, entries[0].describe()
        begun = [entry.attempts for entry in entries]
        lost_s = [entry.lost_s for entry in entries]
        used_up = alone and entries[0].alone and begun[0] - entries[0].excused >= self._max_attempts
        if used_up and self._deserves_pardon(sample_ids[0], entries[0], where):
            entries[0].pardon()
            entries[0].pardoned, begun, used_up = True, [0], False
        if used_up or (not alone and any(begun)):
            return Claim(False, begun, kind, reason, lost_s)
        for entry in entries:
            entry.attempts += 1
            entry.alone |= alone
            entry.solo, entry.taken = alone, False
            entry.where, entry.kind, entry.reason = where, "", ""
            entry.oom_kills = oom_kills
        if any(begun):
            self._save()
        return Claim(True, [entry.attempts for entry in entries], kind, reason, lost_s)

    def made(self, sample_ids: Sequence[str]) -> None:
        """Record that the engine has made samples, which have yet to be stored."""
        for sample_id in sample_ids:
            if sample_id in self._entries:
                self._entries[sample_id].made = True
                self._bad_nodes.made(self._entries[sample_id].node)

    def taken_over(self, sample_ids: Sequence[str]) -> None:
        """Record that the clips of samples were found in the storage."""
        for sample_id in sample_ids:
            if sample_id in self._entries:
                self._entries[sample_id].made = self._entries[sample_id].taken = True

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """Record the error that ended the latest attempt, while the worker still can.

        Args:
            sample_ids: The batch.
            kind: Type of the error.
            reason: Its text.
            lost_s: Engine seconds per sample, if the error ends the worker's process.
        """
        for sample_id in sample_ids:
            if sample_id in self._entries:
                self._entries[sample_id].made = False
                self._entries[sample_id].kind = kind
                self._entries[sample_id].reason = reason
                self._entries[sample_id].lost_s += lost_s

    def release(self, sample_ids: Sequence[str]) -> None:
        """Take back the attempt of a batch that raised; its samples are made one by one now."""
        for sample_id in sample_ids:
            if sample_id in self._entries:
                self._entries[sample_id].attempts -= 1

    def complain(self, text: str) -> None:
        """Keep a worker's message about an error that stops the run and that no sample caused.

        Ray drops the cause of an error on its way to the driver, so the message goes this way.
        """
        self._complaint = self._complaint or text

    def complaint(self) -> str:
        """The first message of `complain`, "" if there is none."""
        return self._complaint

    def finish(self, sample_ids: Sequence[str], statuses: Sequence[str] = ()) -> None:
        """Put samples aside whose final row has arrived at the driver.

        A worker must not do this when it passes a row on, because the row can be lost with its
        node, and the task then runs again. A task also runs again if its node dies after the rows
        have arrived but before the task is reported as ended. Its claim then finds the entry that
        was put aside, and the worker takes over the clip.

        Args:
            sample_ids: The samples.
            statuses: Statuses of their rows, if known; an ok row shows that its node works.
        """
        for sample_id, status in itertools.zip_longest(sample_ids, statuses, fillvalue=""):
            entry = self._entries.pop(sample_id, None)
            if entry is None:
                continue
            if status == "ok" and not entry.taken:
                self._bad_nodes.made(entry.node)
            entry.solo = False  # a later death on its node is not due to this sample
            self._finished[sample_id] = entry
            if len(self._finished) > RECENT:
                del self._finished[next(iter(self._finished))]

    def bad_nodes(self) -> dict[str, list[str]]:
        """Nodes that must get no more work, with the samples that showed it."""
        return self._bad_nodes.bad()

    def doubtful(self, sample_ids: Sequence[str]) -> dict[str, list[str]]:
        """Those of failed samples whose node may be to blame, by node.

        Such a node is bad, or its processes died under the sample and it has made no clip since.
        """
        found: dict[str, list[str]] = {}
        for sample_id in sample_ids:
            if (entry := self._entries.get(sample_id)) is not None:
                node = entry.node
                if self._bad_nodes.is_bad(node) or self._bad_nodes.is_doubtful(node, sample_id):
                    found.setdefault(node, []).append(sample_id)
        return found

    def _entry(self, sample_id: str) -> LedgerEntry:
        if sample_id not in self._entries:
            self._entries[sample_id] = self._finished.pop(sample_id, LedgerEntry())
        return self._entries[sample_id]

    def _record_death(self, sample_id: str, entry: LedgerEntry, where: str, oom_kills: int) -> None:
        """Record the death that another attempt implies; pardon the samples of a bad node."""
        same_node = entry.node == node_of(where)
        if entry.attempts and not entry.kind and same_node and oom_kills > entry.oom_kills:
            entry.reason = f"{entry.describe()}, while the kernel killed for want of memory there"
            entry.kind = "OutOfMemory"
        died = entry.attempts and entry.where != where and not entry.made and entry.solo
        if not died:
            return
        node = entry.node
        entry.solo = False  # a death counts once
        if self._bad_nodes.died(node, sample_id):
            _logger.warning(
                "node %s kills whatever runs on it: its processes died under %s and made nothing "
                "in between; it gets no more work, and these samples are tried elsewhere",
                node,
                ", ".join(self._bad_nodes.bad()[node]),
            )
            for each in self._entries.values():
                # A made sample keeps its attempts, because they make a worker look for its clip.
                if each.node == node and not each.made:
                    each.pardon()

    def _deserves_pardon(self, sample_id: str, entry: LedgerEntry, where: str) -> bool:
        """Whether its node may be to blame, and another node asks; true once per sample."""
        other = entry.node != node_of(where)
        return other and not entry.pardoned and self._bad_nodes.is_doubtful(entry.node, sample_id)

    def _save(self) -> None:
        begun = {key: entry for key, entry in self._entries.items() if entry.attempts > 1}
        write_entries(self._storage, self._key, begun)
