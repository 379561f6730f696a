"""Tells broken nodes from broken samples, so that no sample is blamed for its node.

A poison sample kills one process after another on any node; a broken node kills processes whatever
they work on. A node is bad if, since it last made a clip, its processes died under `VICTIMS`
different samples that were each made alone, while another node makes clips. If no other node makes
clips, nothing tells a broken node from bad samples, and no node could take over. Samples that had
failed by then are made elsewhere (`pipeline.attempts.second_tries`). Knows nothing of Ray.
"""

from __future__ import annotations

from collections import defaultdict

VICTIMS = 3
"""Different samples under which the processes of a bad node died."""


class BadNodes:
    """Deaths by node since each node last made a clip."""

    def __init__(self) -> None:
        """Begin without deaths."""
        self._victims: defaultdict[str, set[str]] = defaultdict(set)
        self._bad: dict[str, list[str]] = {}
        self._makers: set[str] = set()

    def died(self, node: str, sample_id: str) -> bool:
        """Record a death under a sample that was made alone; True if the node is bad now."""
        if node in self._bad:
            return False
        victims = self._victims[node]
        victims.add(sample_id)
        if len(victims) < VICTIMS or not self._makers - {node}:
            return False
        self._bad[node] = sorted(victims)
        return True

    def made(self, node: str) -> None:
        """Record that a node made clips."""
        self._makers.add(node)
        self._victims.pop(node, None)

    def is_doubtful(self, node: str, sample_id: str) -> bool:
        """Whether a node's processes died under a sample, and it has made no clip since."""
        return sample_id in self._victims.get(node, ())

    def is_bad(self, node: str) -> bool:
        """Whether the node is bad and must get no more work."""
        return node in self._bad

    def bad(self) -> dict[str, list[str]]:
        """The bad nodes, each with the samples that showed it."""
        return dict(self._bad)
