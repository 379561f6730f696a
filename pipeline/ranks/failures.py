"""A rank dies, raises or falls silent: how a group notices it, and the error it raises.

The owner of a group waits here for all ranks to answer. Each error names the rank and says what is
known of its failure.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from pipeline.ranks.messages import Answer, ProgressMark, Raised, Ready
from pipeline.ranks.processes import RankProcess
from pipeline.ranks.shared_memory import SharedMessage
from pipeline.ranks.timeouts import AdaptiveTimeout

SETTLE_S = 1.0
"""Seconds to wait after the first failure. Other ranks fail as they lose their peer, and the one
that explains the failure may come last."""

END_S = 5.0
"""Longest wait for the end of a rank that has closed its connection."""


class GroupError(Exception):
    """A request was not answered.

    Attributes:
        alive: Whether the group can take further requests, as it can where all ranks raised alike.
    """

    alive = False


class RankRaisedError(GroupError):
    """A rank raised; the message is its traceback.

    Attributes:
        rank: The first rank that raised.
        kind: Class name of the exception.
        message: Its text.
        alive: All ranks raised the same, so they are still in step.
    """

    def __init__(self, rank: int, kind: str, message: str, text: str, *, alive: bool) -> None:
        super().__init__(f"rank {rank} raised {kind}\n{text}")
        self.rank, self.kind, self.message, self.alive = rank, kind, message, alive


class RankDiedError(GroupError):
    """A rank's process ended by itself or was killed.

    Attributes:
        rank: Number of the rank.
    """

    def __init__(self, rank: int, how: str, output: str) -> None:
        said = f"; its last output:\n{output}" if output else ", without a word"
        super().__init__(f"rank {rank} {how}{said}")
        self.rank = rank


class RankSilentError(GroupError):
    """Ranks gave no sign of progress for longer than their timeout.

    Attributes:
        ranks: Those that are furthest behind.
    """

    def __init__(self, ranks: tuple[int, ...], waited_s: float, where: str) -> None:
        names = ", ".join(str(rank) for rank in ranks)
        super().__init__(f"rank {names} silent for {waited_s:.1f} s after {where}: ended the group")
        self.ranks = ranks


class GroupBrokenError(GroupError, RuntimeError):
    """The group is closed, or was closed because of an error that shows nothing about a rank."""


@dataclass
class _RankProgress:
    """How far one rank has come with a request.

    Attributes:
        mark: Its latest progress mark.
        since: When that was.
        count: Marks in this request.
        done: The message that ended its part, if it is over.
    """

    mark: str
    since: float
    count: int = 0
    done: Ready | Answer | Raised | None = None


class RankWatch:
    """Waits for all ranks of a group to finish one request."""

    def __init__(
        self,
        ranks: Sequence[RankProcess],
        timeout: AdaptiveTimeout,
        begin: str,
        work: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to watch.

        Args:
            ranks: All ranks of the group.
            timeout: How long each may be silent; it learns from this request.
            begin: Progress mark of the beginning.
            work: Work of the request.
            clock: Seconds, rising.
        """
        self._ranks, self._timeout, self._work, self._clock = ranks, timeout, work, clock
        now = clock()
        self._progress = [_RankProgress(begin, now) for _ in ranks]

    def results(self) -> list[Any]:
        """Wait for all ranks, and return the results of their answers.

        Raises:
            GroupError: Some rank did not answer.
        """
        while not self._all_done():
            left = min(
                each.since + self._timeout.allowed_s(each.mark, self._work) - self._clock()
                for each in self._progress
                if each.done is None
            )
            if left <= 0:
                raise self._silent()
            self._listen(left)
            if any(isinstance(each.done, Raised) for each in self._progress):
                self._settle()
                raise self._raised()
        answers = (each.done for each in self._progress)
        return [done.result if isinstance(done, Answer) else None for done in answers]

    def _all_done(self) -> bool:
        return all(each.done for each in self._progress)

    def _listen(self, seconds: float) -> None:
        """Take in the messages of ranks; return after the first ones, or when the time is over."""
        waiting = {
            each.connection: each for each in self._ranks if self._progress[each.rank].done is None
        }
        for ready in wait(list(waiting), timeout=seconds):
            rank = waiting[ready]  # type: ignore[index]  # `wait` returns what it was given
            try:
                message = rank.connection.recv()
                if isinstance(message, SharedMessage):
                    message = message.received(rank.connection)
            except Exception as error:
                # The end of a rank that was sending: EOFError between two messages, OSError within
                # one. A message that cannot be read leaves the ranks out of step as well.
                raise _lost(rank, error) from error
            own, now = self._progress[rank.rank], self._clock()
            self._timeout.observe(own.mark, now - own.since, self._work)
            own.since, own.count = now, own.count + 1
            if isinstance(message, ProgressMark):
                own.mark = message.name
            else:
                own.done = message

    def _settle(self) -> None:
        """Listen a little longer: other ranks may have raised the same, or have died first."""
        until = self._clock() + SETTLE_S
        while (left := until - self._clock()) > 0 and not self._all_done():
            self._listen(left)

    def _raised(self) -> RankRaisedError:
        raised = [
            (rank, each.done)
            for rank, each in enumerate(self._progress)
            if isinstance(each.done, Raised)
        ]
        rank, first = raised[0]
        alike = {(said.kind, said.message) for _, said in raised}
        alive = len(raised) == len(self._progress) and len(alike) == 1 and first.ready
        return RankRaisedError(rank, first.kind, first.message, first.text, alive=alive)

    def _silent(self) -> RankSilentError:
        waiting = [
            (each.count, rank) for rank, each in enumerate(self._progress) if each.done is None
        ]
        least = min(count for count, _ in waiting)
        behind = tuple(rank for count, rank in waiting if count == least)
        own = self._progress[behind[0]]
        return RankSilentError(behind, self._clock() - own.since, own.mark)


def send_to_rank(rank: RankProcess, message: bytes) -> None:
    """Send a pickled message.

    Raises:
        RankDiedError: The rank is gone.
    """
    try:
        rank.connection.send_bytes(message)
    except OSError as error:
        raise _lost(rank, error) from error


def _lost(rank: RankProcess, error: Exception) -> GroupError:
    """What to say of a rank with which no message can be exchanged any more."""
    try:
        rank.process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        if not isinstance(error, OSError | EOFError):
            return GroupBrokenError(
                f"a message of rank {rank.rank} cannot be read: {type(error).__name__}: {error}"
            )
    return RankDiedError(rank.rank, rank.how_it_ended(), rank.last_words())
