"""Tells broken processes, and runs that can make nothing, from broken samples.

A failure by exception shows something about its sample only if the process that met it can make
clips. It is in doubt until that process has made another clip, and is then tried in another process
(`pipeline.attempts.second_tries`). A run in which process after process ends without a clip, under
different samples, stops: what follows would fail as well. Knows nothing of Ray. For nodes:
`pipeline.attempts.bad_nodes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

IN_A_ROW = 3
"""Different samples that fail one after another in a process before it is held to be broken."""

RUN_ENDS, RUN_VICTIMS = 3, 7
"""Ends of processes, and different samples under which they ended, since the run made a clip."""


class ProcessDoubts:
    """Failures by exception since each process last made a clip."""

    def __init__(self) -> None:
        """Begin without failures."""
        self._failed: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def failed(self, where: str, sample_id: str, number: int) -> None:
        """Record a failure of an attempt; attempts are numbered in the order of their claims."""
        self._failed[where][sample_id] = number

    def made(self, where: str, number: int) -> None:
        """Record that an attempt of a process made a clip; earlier failures there are proven."""
        failed = self._failed.get(where, {})
        for sample_id in [each for each, begun in failed.items() if begun < number]:
            del failed[sample_id]
        if not failed:
            self._failed.pop(where, None)

    def proven(self, where: str, sample_ids: Collection[str]) -> None:
        """Record that a process which failed at samples can still make clips."""
        for sample_id in sample_ids:
            self._failed.get(where, {}).pop(sample_id, None)

    def holds(self, where: str, sample_id: str) -> bool:
        """Whether the process may be to blame for its failure at a sample."""
        return sample_id in self._failed.get(where, {})


class BarrenRun:
    """Ends of processes, anywhere, since the run last made a clip."""

    def __init__(self) -> None:
        """Begin without any."""
        self._ends = self._latest = 0
        self._victims: set[str] = set()

    def ended(self, victims: Collection[str], why: str, begun: int, now: int) -> str:
        """Record the end of a process.

        Processes that end side by side, as when many nodes are taken away, count as one.

        Args:
            victims: Samples that it failed at.
            why: The latest error.
            begun: Number of its latest attempt among all attempts of the run.
            now: Attempts of the run so far.

        Returns:
            Why the run should stop, "" if it should not.
        """
        if begun <= self._latest:
            return ""
        self._latest = now
        self._ends += 1
        self._victims.update(victims)
        if self._ends < RUN_ENDS or len(self._victims) < RUN_VICTIMS:
            return ""
        return (
            f"{self._ends} processes in a row ended under {len(self._victims)} different samples, "
            f"and no clip was made in between; the latest: {why}. No sample is blamed: mend the "
            "cause and run the same command again (--max-failed-fraction 1 goes on all the same)"
        )

    def made(self) -> None:
        """Record that a clip was made."""
        self._ends = 0
        self._victims.clear()
