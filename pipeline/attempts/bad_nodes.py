"""Which nodes kill what runs on them, so that no sample is blamed for its node.

A poison sample kills one process after another on any node; a broken node kills processes whatever
they work on. A node is bad when, since it last made a clip, its processes died under `VICTIMS`
different samples that were each made alone, while another node makes clips: where no other does,
nothing tells a broken node from bad samples, and there is nowhere to go. What was given up until it
shows is made elsewhere (`pipeline.attempts.second_tries`). Knows neither Ray nor attempts.
"""

from __future__ import annotations

from collections import defaultdict

VICTIMS = 3


class BadNodes:
    """Deaths by node, since each last made a clip."""

    def __init__(self) -> None:
        """Suspect none."""
        self._victims: defaultdict[str, set[str]] = defaultdict(set)
        self._bad: dict[str, list[str]] = {}
        self._makers: set[str] = set()

    def died(self, node: str, sample_id: str) -> bool:
        """Note that a process died under a sample alone; True if this shows the node to be bad."""
        if node in self._bad:
            return False
        victims = self._victims[node]
        victims.add(sample_id)
        if len(victims) < VICTIMS or not self._makers - {node}:
            return False
        self._bad[node] = sorted(victims)
        return True

    def made(self, node: str) -> None:
        """Note that a node made clips."""
        self._makers.add(node)
        self._victims.pop(node, None)

    def suspects(self, node: str, sample_id: str) -> bool:
        """Whether a node's processes died under a sample, and it has made nothing since."""
        return sample_id in self._victims.get(node, ())

    def is_bad(self, node: str) -> bool:
        """Whether nothing should run there any more."""
        return node in self._bad

    def bad(self) -> dict[str, list[str]]:
        """Bad nodes, each with the samples that showed it."""
        return dict(self._bad)
