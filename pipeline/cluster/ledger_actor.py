"""The ledger in a Ray actor beside the driver, and the proxy through which workers call it.

Separate from `pipeline.cluster.group_actor`, so that the ledger's process does not import engines.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import ray

from pipeline.attempts.claim import Claim
from pipeline.attempts.ledger import Ledger
from pipeline.attempts.loads import AfterLoad, Loads
from pipeline.process import begin_actor
from pipeline.storage.storage import Storage


class LedgerActor(Ledger):
    """A ledger that takes several events in one call, and hears of the loads of the model."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Open the ledger; see `Ledger`."""
        begin_actor()
        super().__init__(*args, **settings)
        self._loads: defaultdict[str, Loads] = defaultdict(Loads)
        self._reserved: dict[str, str] = {}

    def reserve(self, sample_ids: Sequence[str], holder: str, instead_of: str = "") -> str:
        """Reserve the first of some samples that no other actor holds; "" if there is none.

        Args:
            sample_ids: The samples.
            holder: Id of the actor that wants one.
            instead_of: An actor that is dead, and holds nothing any more.
        """
        for sample_id in sample_ids:
            if self._reserved.get(sample_id, holder) in (holder, instead_of):
                self._reserved[sample_id] = holder
                return sample_id
        return ""

    def holder_of(self, sample_id: str) -> str:
        """The actor that has reserved a sample, "" if none has."""
        return self._reserved.get(sample_id, "")

    def load_begins(self, what: str, actor: str, node: str, others: Collection[str]) -> AfterLoad:
        """Record that a process begins to load; returns what it should do."""
        return self._loads[what].begins(actor, node, others)

    def loaded(self, what: str, actor: str) -> None:
        """Record that a process has loaded."""
        self._loads[what].loaded(actor)

    def cannot_load(
        self, what: str, actor: str, reason: str, others: Collection[str]
    ) -> tuple[AfterLoad, float]:
        """Record that it could not; returns what it should do, and after how many seconds."""
        return self._loads[what].failed(actor, reason, others), self._loads[what].pause_s()

    def left_out(self) -> dict[str, str]:
        """Nodes that could not load something, each with the error."""
        return {node: why for each in self._loads.values() for node, why in each.left_out().items()}

    def after(self, events: Sequence[tuple[str, list[str]]], method: str, *args: Any) -> Any:
        """Apply events that need no answer, in order, then answer a call."""
        for name, sample_ids in events:
            getattr(self, name)(sample_ids)
        return getattr(self, method)(*args)


class RemoteLedger:
    """Proxy of a ledger in a Ray actor, with the interface of the ledger itself.

    Events that need no answer travel in order with the next call that needs one, so an engine call
    costs one message. Events that no further call carries concern samples that are done.
    """

    def __init__(self, handle: Any) -> None:
        """Wrap the handle of a Ray actor of class `LedgerActor`."""
        self._handle = handle
        self._events: list[tuple[str, list[str]]] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteLedger, (self._handle,)

    @classmethod
    def start(
        cls, storage: Storage, run_id: str, *, max_attempts: int, forget: bool, stops: bool = True
    ) -> RemoteLedger:
        """Start the ledger on the driver's own node, which is no spot node.

        It restarts by itself and reads back what it had written.

        Raises:
            StorageError: The attempts of earlier runs cannot be read.
        """
        Ledger(storage, run_id, max_attempts=max_attempts, forget=forget)  # raises here, at once
        # Not a soft node affinity: Ray 2.60 ignores it for an actor without CPUs.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, label_selector=here)(
            LedgerActor
        )
        settings = {"max_attempts": max_attempts, "forget": forget, "stops": stops}
        return cls(actor.remote(storage, run_id, **settings))

    def claim(self, sample_ids: Sequence[str], where: str, oom_kills: int = 0) -> Claim:
        """Ask for attempts; returns when they are recorded."""
        claim: Claim = self._ask("claim", list(sample_ids), where, oom_kills)
        return claim

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """Record an error; returns when it is recorded, because the caller may die next."""
        self._ask("note", list(sample_ids), kind, reason, lost_s)

    def made(self, sample_ids: Sequence[str]) -> None:
        """Report that an engine call returned; the ledger knows before the next call begins."""
        self._later("made", sample_ids)

    def taken_over(self, sample_ids: Sequence[str]) -> None:
        """Report that a clip was found; the ledger knows before the next engine call begins."""
        self._later("taken_over", sample_ids)

    def release(self, sample_ids: Sequence[str]) -> None:
        """Take back the attempt of a batch that raised."""
        self._later("release", sample_ids)

    def spent(self, sample_ids: Sequence[str], lost_s: float) -> None:
        """Record the engine seconds of a sample that was given up; returns when recorded."""
        self._ask("spent", list(sample_ids), lost_s)

    def proven(self, sample_ids: Sequence[str], where: str) -> None:
        """Record that a process can still make clips; returns when it is recorded."""
        self._ask("proven", list(sample_ids), where)

    def broken(self, sample_ids: Sequence[str], where: str, reason: str) -> str:
        """Record that a process ends; returns why the run should stop, "" if it should not."""
        stop: str = self._ask("broken", list(sample_ids), where, reason)
        return stop

    def reserve(self, sample_ids: Sequence[str], holder: str, instead_of: str = "") -> str:
        """Reserve the first of some samples that no other actor holds; "" if there is none."""
        return ray.get(self._handle.reserve.remote(list(sample_ids), holder, instead_of))

    def holder_of(self, sample_id: str) -> str:
        """The actor that has reserved a sample, "" if none has."""
        return ray.get(self._handle.holder_of.remote(sample_id))

    def load_begins(self, what: str, actor: str, node: str, others: Collection[str]) -> AfterLoad:
        """Report that this process begins to load; returns what it should do."""
        return ray.get(self._handle.load_begins.remote(what, actor, node, list(others)))

    def loaded(self, what: str, actor: str) -> None:
        """Report that this process has loaded; returns when it is recorded."""
        ray.get(self._handle.loaded.remote(what, actor))

    def cannot_load(
        self, what: str, actor: str, reason: str, others: Collection[str]
    ) -> tuple[AfterLoad, float]:
        """Report that it could not; returns what it should do, and after how many seconds."""
        return ray.get(self._handle.cannot_load.remote(what, actor, reason, list(others)))

    def left_out(self) -> dict[str, str]:
        """Nodes that could not load something, each with the error."""
        return ray.get(self._handle.left_out.remote())

    def complain(self, text: str) -> None:
        """Leave a message for the driver; returns when it is recorded."""
        ray.get(self._handle.complain.remote(text))

    def complaint(self) -> str:
        """The first message that a worker left, "" if there is none."""
        return ray.get(self._handle.complaint.remote())

    def bad_nodes(self) -> dict[str, list[str]]:
        """Nodes that must get no more work, with the samples that showed it."""
        return ray.get(self._handle.bad_nodes.remote())

    def doubtful(self, sample_ids: Sequence[str]) -> dict[str, list[str]]:
        """Samples whose failure may be their node's fault, by node; sees every earlier `finish`."""
        return ray.get(self._handle.doubtful.remote(list(sample_ids)))

    def unproven(self, sample_ids: Sequence[str]) -> list[str]:
        """Samples whose failure may be their process's fault; sees every earlier `finish`."""
        return ray.get(self._handle.unproven.remote(list(sample_ids)))

    def retry(self, sample_ids: Sequence[str]) -> None:
        """Give samples their attempts back, before another process tries them."""
        ray.get(self._handle.retry.remote(list(sample_ids)))

    def finish(self, sample_ids: Sequence[str], statuses: Sequence[str] = ()) -> None:
        """Put samples aside whose rows have arrived; does not wait for the ledger."""
        self._handle.finish.remote(list(sample_ids), list(statuses))

    def _later(self, method: str, sample_ids: Sequence[str]) -> None:
        with self._lock:
            self._events.append((method, list(sample_ids)))

    def _ask(self, method: str, *args: Any) -> Any:
        with self._lock:  # sent in the order in which they were taken
            answer = self._handle.after.remote(self._events, method, *args)
            self._events = []
        return ray.get(answer)
