"""The first clips of a run, as an actor sees them: all groups make them, then wait for the last.

All other requests of the run are planned with the profile that these clips give, so no actor can
begin with them earlier. Which actor Ray Data gives the first clips to depends on which one starts
first, and often it is one for all. So an actor that would wait takes one of them over from the end,
while the one whose task they belong to goes on from the beginning. The files of the output prefix
tell what is measured, and the ledger who makes what.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.calibration.measurement import FirstClips, OwnProfile
from pipeline.dataset.schema import Row
from pipeline.requests.sample_request import SampleRequest

logger = logging.getLogger(__name__)

LOOK_FIRST_S, LOOK_LATER_S = 0.1, 2.0
"""How long an actor waits before it looks at the prefix again: at first, and after a while. Every
group waits so long for the last clip, so a short run must not wait in whole seconds."""
LOOKS_GROW = 1.5
"""Factor from one wait to the next."""


class ReservingLedger(Protocol):
    """What this module asks of the ledger."""

    def reserve(self, sample_ids: Sequence[str], holder: str, instead_of: str = "") -> str:
        """Reserve the first of some samples that no other actor holds; "" if there is none."""
        ...

    def holder_of(self, sample_id: str) -> str:
        """The actor that has reserved a sample, "" if none has."""
        ...


class FirstClipsHere:
    """Makes the units of one actor in a run that measures its own profile."""

    def __init__(
        self,
        first: FirstClips,
        ledger: ReservingLedger,
        make: Callable[[Sequence[SampleRequest]], list[Row]],
        stalled_s: float,
        holder: str,
        is_alive: Callable[[str], bool],
    ) -> None:
        """Begin without a profile.

        Args:
            first: The clips, and what is measured so far.
            ledger: Knows which actor makes which clip.
            make: Makes requests and returns their rows.
            stalled_s: Clips that are not measured so long after the one before are left out. The
                longest engine call: what takes longer has failed.
            holder: Id of this actor; a restarted one keeps it, and with it what it had reserved.
            is_alive: Whether the process of the actor with an id lives.
        """
        self._first, self._ledger, self._make = first, ledger, make
        self._stalled_s, self._holder, self._is_alive = stalled_s, holder, is_alive
        self._own: OwnProfile | None = None
        self._taken: set[str] = set()  # by a thread of this process
        self._lock = threading.Lock()

    def process(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        """Return the rows of units, in order; waits for the profile if a unit needs it."""
        made: dict[int, list[Row]] = {}
        elsewhere: list[int] = []
        for index, unit in enumerate(units):
            if not unit[0].records:
                continue
            if self._reserve([unit[0]]):
                made[index] = self._record(unit[0])
            else:
                elsewhere.append(index)
        for index in elsewhere:
            self._await(units[index][0])
            made[index] = self._record(units[index][0])  # finds the stored clip if there is one
        if len(made) < len(units):
            waiting = [index for index in range(len(units)) if index not in made]
            ready = self.settle([units[index] for index in waiting])
            settled = dict(zip(waiting, ready, strict=True))
            # In one go, so that units that are alike share an engine call.
            rows = iter(self._make([each for unit in settled.values() for each in unit]))
            made |= {index: [next(rows) for _ in unit] for index, unit in settled.items()}
        return [row for index in range(len(units)) for row in made[index]]

    def settle(self, units: Sequence[Sequence[SampleRequest]]) -> list[list[SampleRequest]]:
        """Put the profile into units that wait for it, as soon as it is measured."""
        if not units:
            return []
        with self._lock:  # of several tasks here, one looks for all
            own = self._profile()
        return [own.settle(unit) for unit in units]

    def _reserve(self, requests: Sequence[SampleRequest]) -> SampleRequest | None:
        """The first of some clips that nobody else makes; it is this actor's from now on."""
        wanted = {each.sample_id: each for each in requests}
        found = self._ledger.reserve(list(wanted), self._holder)
        for sample_id in () if found else wanted:
            if not self._is_alive(maker := self._ledger.holder_of(sample_id)):
                # If that actor comes back to life, the clip is not its own any more.
                found = self._ledger.reserve([sample_id], self._holder, instead_of=maker)
                break
        if not found:
            return None
        self._taken.add(found)
        return wanted[found]

    def _record(self, request: SampleRequest) -> list[Row]:
        rows = self._make([request])
        if rows[0]["status"] != "ok":
            self._first.fail(request, f"{rows[0]['error_type']}: {rows[0]['error_message']}")
        return rows

    def _await(self, request: SampleRequest) -> None:
        """Wait until the actor that makes a clip has done so, or is dead."""
        wait_s = LOOK_FIRST_S
        while request in self._first.missing() and not self._reserve([request]):
            wait_s = _pause(wait_s)

    def _profile(self) -> OwnProfile:
        """The profile, as soon as all first clips are measured."""
        moved = time.monotonic()
        left: list[SampleRequest] | None = None
        wait_s = LOOK_FIRST_S
        while self._own is None:
            self._own = self._first.complete()
            if self._own is not None:
                break
            missing = self._first.missing()
            now = time.monotonic()
            if left is None or len(missing) < len(left):
                left, moved = missing, now
            others = [each for each in reversed(missing) if each.sample_id not in self._taken]
            if now - moved > self._stalled_s:
                logger.warning("%d first clips are not measured and are left out", len(missing))
                self._own = self._first.complete(give_up=True)
            elif others and (request := self._reserve(others)):
                logger.info("making first clip %s for another group", request.sample_id)
                self._record(request)  # the task that it belongs to will find the stored clip
            else:
                wait_s = _pause(wait_s)
        return self._own


def _pause(wait_s: float) -> float:
    """Sleep, and return how long the next pause is."""
    time.sleep(wait_s)
    return min(wait_s * LOOKS_GROW, LOOK_LATER_S)
