"""Decides what follows a model that could not be loaded: again, elsewhere, or the end of the run.

One process that cannot load shows little: a killed rank, a download that took too long, a device
that is gone from one node. So it is tried again, then on other nodes; a node that cannot load is
left out and named. The run ends only where no node can load. Knows nothing of Ray.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection

TRIES = 4
"""Loads in a row that must fail on a node before it is left out."""

PATIENT_TRIES = 12
"""The same for a node where the model was loaded in this run, and for one that waits for others
to show whether they can load it."""

LONGEST_PAUSE_S = 30.0


class AfterLoad(enum.Enum):
    """What a process does that could not load the model."""

    AGAIN = "again"
    """End, after a pause; Ray starts it again, here or elsewhere."""
    ELSEWHERE = "elsewhere"
    """Take its node out of service, and end."""
    STOP = "stop"
    """Stop the run."""


class Loads:
    """Loads of one thing by node."""

    def __init__(self) -> None:
        """Begin without any."""
        self._failed: Counter[str] = Counter()
        self._able: set[str] = set()
        self._left_out: dict[str, str] = {}
        self._under_way: dict[str, str] = {}
        self._tries = 0

    def begins(self, actor: str, node: str, others: Collection[str]) -> AfterLoad:
        """Record that a process begins to load; its predecessor may have died while it did so.

        Args:
            actor: The actor that it belongs to; it stays when its process ends.
            node: The node.
            others: The other nodes that could hold a group.
        """
        then = AfterLoad.AGAIN
        if self._under_way.pop(actor, "") == node:
            then = self._judge(node, "a process died while it loaded", others)
        self._under_way[actor] = node
        return then

    def loaded(self, actor: str) -> None:
        """Record that a process has loaded."""
        node = self._under_way.pop(actor, "")
        self._able.add(node)
        self._failed.pop(node, None)

    def failed(self, actor: str, reason: str, others: Collection[str]) -> AfterLoad:
        """Record that a process could not load.

        Args:
            actor: The actor that it belongs to.
            reason: The error.
            others: The other nodes that could hold a group.
        """
        return self._judge(self._under_way.pop(actor, ""), reason, others)

    def _judge(self, node: str, reason: str, others: Collection[str]) -> AfterLoad:
        self._failed[node] += 1
        self._tries = tries = self._failed[node]
        if tries < (PATIENT_TRIES if node in self._able else TRIES):
            return AfterLoad.AGAIN
        open_ones = set(others) - set(self._left_out)
        if not open_ones & self._able:
            # Nothing shows yet that another node can load. Those that fail as well are no way out.
            untried = {each for each in open_ones if self._failed[each] < TRIES}
            if not untried:
                return AfterLoad.STOP
            if tries < PATIENT_TRIES:
                return AfterLoad.AGAIN
        self._left_out.setdefault(node, reason)
        return AfterLoad.ELSEWHERE

    def pause_s(self) -> float:
        """Seconds before the next load, after the latest failure."""
        return min(LONGEST_PAUSE_S, 2.0 ** (self._tries - 1) / 2)

    def left_out(self) -> dict[str, str]:
        """Nodes that could not load the model, each with the error."""
        return dict(self._left_out)
