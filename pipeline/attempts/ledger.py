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

from pipeline.attempts.bad_nodes import BadNodes
from pipeline.attempts.blame import BarrenRun, ProcessDoubts
from pipeline.attempts.claim import Claim
from pipeline.attempts.ledger_entry import (
    SUFFIX,
    LedgerEntry,
    earlier_entries,
    node_of,
    write_entries,
)
from pipeline.storage.storage import Storage

_logger = logging.getLogger(__name__)

RECENT = 20_000
"""Finished samples that the ledger remembers; a node's death is known within seconds."""

RETURNS = 2
"""Most times that a sample gets its attempts back from broken processes."""


class Ledger:
    """Counts attempts; outlives workers in memory, and its own death through storage."""

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        *,
        max_attempts: int,
        forget: bool = False,
        stops: bool = True,
    ) -> None:
        """Open the ledger of an output prefix.

        Args:
            storage: The output prefix.
            run_id: Names this run's file, `runs/{run_id}.attempts.json`.
            max_attempts: Attempts per sample. At least one of them is made alone, so that a sample
                does not fail because of a neighbour in its batch.
            forget: Start from zero: failed samples get their attempts back (`--retry-failed`).
            stops: Whether a run that makes nothing any more should stop.

        Raises:
            StorageError: The attempts of earlier runs cannot be read.
        """
        self._storage = storage
        self._key = f"runs/{run_id}{SUFFIX}"
        self._max_attempts = max_attempts
        self._finished: dict[str, LedgerEntry] = {}
        self._complaint = ""
        self._bad_nodes = BadNodes()
        self._doubts = ProcessDoubts()
        self._barren = BarrenRun()
        self._stops, self._hopeless = stops, ""
        self._claims = 0
        self._entries = earlier_entries(storage, self._key, forget=forget)

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
        bad = self._bad_nodes.is_bad(node_of(where))
        if bad or self._hopeless:
            begun = [entry.attempts for entry in entries]
            return Claim(False, begun, "", "", bad_node=bad, hopeless=self._hopeless)
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
        self._claims += 1
        for entry in entries:
            entry.attempts += 1
            entry.number = self._claims
            entry.places += entry.where != where
            entry.suspect &= entry.where == where
            entry.alone |= alone
            entry.solo, entry.taken = alone, False
            entry.where, entry.kind, entry.reason = where, "", ""
            entry.oom_kills = oom_kills
        if any(begun):
            self._save()
        return Claim(True, [entry.attempts for entry in entries], kind, reason, lost_s)

    def made(self, sample_ids: Sequence[str]) -> None:
        """Record that the engine has made samples, which have yet to be stored."""
        for _, entry in self._known(sample_ids):
            entry.made = True
            self._bad_nodes.made(entry.node)
            self._barren.made()

    def taken_over(self, sample_ids: Sequence[str]) -> None:
        """Record that the clips of samples were found in the storage."""
        for _, entry in self._known(sample_ids):
            entry.made = entry.taken = True

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """Record the error that ended the latest attempt, while the worker still can.

        Args:
            sample_ids: The batch.
            kind: Type of the error.
            reason: Its text.
            lost_s: Engine seconds per sample, if the error ends the worker's process.
        """
        for sample_id, entry in self._known(sample_ids):
            entry.made = False
            entry.kind, entry.reason = kind, reason
            entry.lost_s += lost_s
            if entry.solo:
                self._doubts.failed(entry.where, sample_id, entry.number)

    def spent(self, sample_ids: Sequence[str], lost_s: float) -> None:
        """Record the engine seconds of a sample that was given up, in case it is tried again."""
        for _, entry in self._known(sample_ids):
            entry.lost_s += lost_s

    def proven(self, sample_ids: Sequence[str], where: str) -> None:
        """Record that the process which failed at samples can still make another clip."""
        self._doubts.proven(where, sample_ids)

    def broken(self, sample_ids: Sequence[str], where: str, reason: str) -> str:
        """Record that a process ends because it failed at different samples in a row.

        They get their attempts back, at most `RETURNS` times each, and are tried elsewhere.

        Returns:
            Why the run should stop, "" if it should not.
        """
        for _, entry in self._known(sample_ids):
            if entry.returns < RETURNS:
                entry.returns += 1
                entry.pardon()
                entry.suspect = True
        self._blame(node_of(where), sample_ids[-1])
        self._save()
        return self._ended(sample_ids, reason, self._entry(sample_ids[-1]).number)

    def unproven(self, sample_ids: Sequence[str]) -> list[str]:
        """Those of failed samples that only one process has tried, which has made nothing since."""
        known = self._known(sample_ids)
        return [sample_id for sample_id, entry in known if self._is_unproven(sample_id, entry)]

    def retry(self, sample_ids: Sequence[str]) -> None:
        """Give samples their attempts back, before another process tries them."""
        for _, entry in self._known(sample_ids):
            entry.pardon()

    def release(self, sample_ids: Sequence[str]) -> None:
        """Take back the attempt of a batch that raised; its samples are made one by one now."""
        for _, entry in self._known(sample_ids):
            entry.attempts -= 1

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
                self._doubts.made(entry.where, entry.number)
                self._barren.made()
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
        for sample_id, entry in self._known(sample_ids):
            node = entry.node
            if self._bad_nodes.is_bad(node) or self._bad_nodes.is_doubtful(node, sample_id):
                found.setdefault(node, []).append(sample_id)
        return found

    def _known(self, sample_ids: Sequence[str]) -> list[tuple[str, LedgerEntry]]:
        return [(each, self._entries[each]) for each in sample_ids if each in self._entries]

    def _entry(self, sample_id: str) -> LedgerEntry:
        if sample_id not in self._entries:
            self._entries[sample_id] = self._finished.pop(sample_id, LedgerEntry())
        return self._entries[sample_id]

    def _record_death(self, sample_id: str, entry: LedgerEntry, where: str, oom_kills: int) -> None:
        """Record the death that another attempt implies."""
        same_node = entry.node == node_of(where)
        if entry.attempts and not entry.kind and same_node and oom_kills > entry.oom_kills:
            entry.reason = f"{entry.describe()}, while the kernel killed for want of memory there"
            entry.kind = "OutOfMemory"
        died = entry.attempts and entry.where != where and not entry.made and entry.solo
        if not died:
            return
        entry.solo = False  # a death counts once
        why = entry.describe()  # before a pardon
        self._blame(entry.node, sample_id)
        self._ended([sample_id], why, entry.number)

    def _ended(self, victims: Sequence[str], why: str, begun: int) -> str:
        stop = self._barren.ended(victims, why, begun, self._claims)
        if stop and self._stops and not self._hopeless:
            self._hopeless = stop
            self.retry(self.unproven(list(self._entries)))
            self._save()
        return self._hopeless

    def _is_unproven(self, sample_id: str, entry: LedgerEntry) -> bool:
        return entry.suspect or (entry.places == 1 and self._doubts.holds(entry.where, sample_id))

    def _blame(self, node: str, sample_id: str) -> None:
        """Count the end of a process against its node; pardon the samples of a bad node."""
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
