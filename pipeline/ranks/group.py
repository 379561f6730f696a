"""A group as its owner sees it: start it, ask it, close it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

from pipeline.ranks.errors import (
    GroupError,
    RankDiedError,
    RankRaisedError,
    RankSilentError,
)
from pipeline.ranks.launch import LOOPBACK, RankProcess, start_rank
from pipeline.ranks.messages import (
    Answer,
    Ask,
    MakeWorker,
    ProgressMark,
    Raised,
    Ready,
)
from pipeline.ranks.pace import Pace
from pipeline.ranks.reaper import Reaper
from pipeline.ranks.spec import GroupSpec

LOADING, BEGUN = "the start", "the request"
"""Marks that the parent sets itself."""

SETTLE_S = 1.0
"""After the first failure others follow, as peers lose each other: so long is waited for the one
that explains them."""


@dataclass
class _Progress:
    """How far one rank has come.

    Attributes:
        mark: Its latest.
        since: When that was.
        count: Marks in this request.
        done: What ended its part, if it is over.
    """

    mark: str
    since: float
    count: int = 0
    done: Ready | Answer | Raised | None = None


class RankGroup:
    """Ranks that run one model together. Not for use by several threads at once."""

    def __init__(
        self,
        make: MakeWorker,
        spec: GroupSpec,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start all ranks and wait until they take requests.

        Args:
            make: Loads a rank's model; found by name in the ranks, so not a lambda.
            spec: Size, devices, limits.
            pace: How long ranks may be silent.
            clock: Seconds, rising.

        Raises:
            GroupError: A rank could not start; none is left running.
            ValueError: `make` cannot be found by name.
        """
        try:
            setup = pickle.dumps(make)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"ranks cannot find {make!r} by name: {error}") from error
        self._pace = pace or Pace()
        self._spec, self._clock, self._number = spec, clock, 0
        self._reaper = Reaper()
        self._ranks: list[RankProcess] = []
        self._store = _rendezvous()
        self._open = True
        try:
            for rank in range(spec.size):
                self._ranks.append(start_rank(spec, rank, self._store.port, self._reaper.group))
            for each in self._ranks:
                _send_bytes(each, setup)
            self._await(Pace(first_s=spec.start_s), LOADING, 1.0)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether requests can be asked."""
        return self._open

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the ranks, by rank."""
        return tuple(each.process.pid for each in self._ranks)

    def ask(self, payload: Any, work: float = 1.0) -> Any:
        """Have a request answered by all ranks together.

        Args:
            payload: The same for every rank; picklable.
            work: How much it is, in a unit of the caller's; deadlines grow with it.

        Returns:
            What rank 0 returned.

        Raises:
            GroupError: No answer. The group is closed, unless the error says that it is alive.
            RuntimeError: The group is closed.
        """
        if not self._open:
            raise RuntimeError("the group is closed")
        self._number += 1
        message = pickle.dumps(Ask(self._number, payload))
        try:
            for each in self._ranks:
                _send_bytes(each, message)
            answers = self._await(self._pace, BEGUN, work)
        except GroupError as error:
            if not error.alive:
                self.close()
            raise
        except BaseException:
            self.close()  # interrupted: ranks are in the middle of something nobody waits for
            raise
        return answers[0]

    def close(self) -> None:
        """End every rank and free what the group holds; harmless when called again."""
        self._open = False
        self._reaper.kill()
        for each in self._ranks:
            each.bury()
        self._ranks = []
        self._store = None  # frees its port

    def __enter__(self) -> RankGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _await(self, pace: Pace, begin: str, work: float) -> list[Any]:
        """Wait for all ranks; the results of those that answered.

        Raises:
            GroupError: Some rank did not.
        """
        now = self._clock()
        progress = [_Progress(begin, now) for _ in self._ranks]
        while not all(each.done for each in progress):
            left = min(
                each.since + pace.allowed_s(each.mark, work) - self._clock()
                for each in progress
                if each.done is None
            )
            if left <= 0:
                raise self._silent(progress)
            self._listen(progress, pace, work, left)
            if any(isinstance(each.done, Raised) for each in progress):
                self._settle(progress, pace, work)
                raise self._raised(progress)
        return [each.done.result if isinstance(each.done, Answer) else None for each in progress]

    def _listen(self, progress: list[_Progress], pace: Pace, work: float, seconds: float) -> None:
        """Take in what ranks say within some time; return when anything was said."""
        waiting = {
            each.connection: each for each in self._ranks if progress[each.rank].done is None
        }
        for ready in wait(list(waiting), timeout=seconds):
            rank = waiting[ready]  # type: ignore[index]  # `wait` gives back what it was given
            try:
                message = rank.connection.recv()
            except (EOFError, ConnectionResetError) as error:
                rank.process.wait(timeout=5.0)
                raise RankDiedError(rank.rank, rank.how_it_ended(), rank.last_words()) from error
            own, now = progress[rank.rank], self._clock()
            pace.saw(own.mark, now - own.since, work)
            own.since, own.count = now, own.count + 1
            if isinstance(message, ProgressMark):
                own.mark = message.name
            else:
                own.done = message

    def _settle(self, progress: list[_Progress], pace: Pace, work: float) -> None:
        """Hear the others out for a moment: they may have raised the same, or have died first."""
        until = self._clock() + SETTLE_S
        while (left := until - self._clock()) > 0 and not all(each.done for each in progress):
            self._listen(progress, pace, work, left)

    def _raised(self, progress: Sequence[_Progress]) -> RankRaisedError:
        raised = [
            (rank, each.done) for rank, each in enumerate(progress) if isinstance(each.done, Raised)
        ]
        rank, first = raised[0]
        alike = {(said.kind, said.message) for _, said in raised}
        alive = len(raised) == len(progress) and len(alike) == 1 and first.ready
        return RankRaisedError(rank, first.kind, first.message, first.text, alive=alive)

    def _silent(self, progress: Sequence[_Progress]) -> RankSilentError:
        waiting = [(each.count, rank) for rank, each in enumerate(progress) if each.done is None]
        least = min(count for count, _ in waiting)
        behind = tuple(rank for count, rank in waiting if count == least)
        own = progress[behind[0]]
        return RankSilentError(behind, self._clock() - own.since, own.mark)


def _rendezvous() -> Any:
    """The store where the ranks find each other.

    Its port is 0: the kernel picks a free one, and it is ours from that moment.
    """
    # Here, because ranks import this package too, and those of tests need no torch.
    from torch import distributed

    make: Any = distributed.TCPStore  # type: ignore[attr-defined]  # absent from its __all__
    return make(LOOPBACK, 0, is_master=True, wait_for_workers=False)


def _send_bytes(rank: RankProcess, message: bytes) -> None:
    """Send what was pickled once for all ranks.

    Raises:
        RankDiedError: The rank is gone.
    """
    try:
        rank.connection.send_bytes(message)
    except (BrokenPipeError, ConnectionResetError) as error:
        rank.process.wait(timeout=5.0)
        raise RankDiedError(rank.rank, rank.how_it_ended(), rank.last_words()) from error
