"""A group of ranks as its owner sees it: start it, ask it, close it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pipeline.ranks.failures import GroupBrokenError, GroupError, RankWatch, send_to_rank
from pipeline.ranks.messages import MakeHandler
from pipeline.ranks.processes import LOOPBACK, GroupSpec, RankProcess, Reaper, start_rank
from pipeline.ranks.timeouts import AdaptiveTimeout

LOADING, BEGUN = "the start", "the request"
"""Progress marks that the owner sets itself."""


class RankGroup:
    """Ranks that run one model together. Not for use by several threads at once."""

    def __init__(
        self,
        make: MakeHandler,
        spec: GroupSpec,
        *,
        timeout: AdaptiveTimeout | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start all ranks and wait until they take requests.

        Args:
            make: Loads a rank's model. Ranks find it by name, so it cannot be a lambda.
            spec: Size, devices, limits.
            timeout: How long ranks may be silent.
            clock: Seconds, rising.

        Raises:
            GroupError: A rank could not start; no rank is left running.
            ValueError: `make` cannot be found by name.
        """
        try:
            setup = pickle.dumps(make)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"ranks cannot find {make!r} by name: {error}") from error
        self._timeout, self._clock = timeout or AdaptiveTimeout(), clock
        self._reaper = Reaper()
        self._ranks: list[RankProcess] = []
        self._store = _rendezvous()
        self._open = True
        try:
            for rank in range(spec.size):
                self._ranks.append(start_rank(spec, rank, self._store.port, self._reaper.group))
            for each in self._ranks:
                send_to_rank(each, setup)
            start = AdaptiveTimeout(first_s=spec.start_s)
            RankWatch(self._ranks, start, LOADING, clock=clock).results()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the group takes requests."""
        return self._open

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the ranks, by rank."""
        return tuple(each.process.pid for each in self._ranks)

    def ask(self, payload: Any, work: float = 1.0) -> Any:
        """Have all ranks answer a request together.

        Args:
            payload: The same for every rank; picklable.
            work: Size of the request, in any unit; timeouts grow with it.

        Returns:
            The answer of rank 0.

        Raises:
            GroupError: No answer. The group is closed unless the error's `alive` is true; a closed
                group raises it too.
        """
        if not self._open:
            raise GroupBrokenError("the group is closed")
        message = pickle.dumps(payload)
        try:
            for each in self._ranks:
                send_to_rank(each, message)
            return RankWatch(self._ranks, self._timeout, BEGUN, work, self._clock).results()[0]
        except GroupError as error:
            if not error.alive:
                self.close()
            raise
        except Exception as error:
            self.close()  # the ranks are in the middle of a request
            raise GroupBrokenError(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # interrupted, likewise
            raise

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


def _rendezvous() -> Any:
    """The store where the ranks find each other.

    Its port is given as 0, so the kernel picks a free one, which is bound from then on.
    """
    # Imported here because ranks import this package too, and some ranks of tests need no torch.
    from torch import distributed

    make: Any = distributed.TCPStore  # type: ignore[attr-defined]  # absent from its __all__
    return make(LOOPBACK, 0, is_master=True, wait_for_workers=False)
