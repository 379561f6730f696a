"""The first clips of a run, as an actor sees them: it makes its own, then waits for the others'.

All other requests of the run are planned with the profile that these clips give, so no actor can
begin with them earlier. The files of the output prefix tell what is measured; nothing else is
exchanged.
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

LOOK_EVERY_S = 2.0
"""How often the prefix is looked at."""

HELP_AFTER_S = 60.0
"""After this time an actor makes a clip itself that no other actor has begun: their task may wait
for the very place that this one holds."""


class BegunLedger(Protocol):
    """What this module asks of the ledger."""

    def unbegun(self, sample_ids: Sequence[str]) -> list[str]:
        """Those of some samples that no attempt of this run has begun."""
        ...


class FirstClipsHere:
    """Makes the units of one actor in a run that measures its own profile."""

    def __init__(
        self,
        first: FirstClips,
        ledger: BegunLedger,
        make: Callable[[Sequence[SampleRequest]], list[Row]],
        stalled_s: float,
    ) -> None:
        """Begin without a profile.

        Args:
            first: The clips, and what is measured so far.
            ledger: Knows which clips somebody has begun.
            make: Makes requests and returns their rows.
            stalled_s: Clips that are not measured so long after the one before are left out. The
                longest engine call: what takes longer has failed.
        """
        self._first, self._ledger, self._make = first, ledger, make
        self._stalled_s = stalled_s
        self._own: OwnProfile | None = None
        self._lock = threading.Lock()

    def process(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        """Return the rows of units, in order; waits for the profile if a unit needs it."""
        made: dict[int, list[Row]] = {}
        for index, unit in enumerate(units):
            if unit[0].records:
                made[index] = self._record(unit[0])
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

    def _record(self, request: SampleRequest) -> list[Row]:
        rows = self._make([request])
        if rows[0]["status"] != "ok":
            self._first.fail(request, f"{rows[0]['error_type']}: {rows[0]['error_message']}")
        return rows

    def _profile(self) -> OwnProfile:
        """The profile, as soon as all first clips are measured."""
        began = moved = time.monotonic()
        left: list[SampleRequest] | None = None
        while self._own is None:
            self._own = self._first.complete()
            if self._own is not None:
                break
            missing = self._first.missing()
            now = time.monotonic()
            if left is None or len(missing) < len(left):
                left, moved = missing, now
            if now - moved > self._stalled_s:
                logger.warning("%d first clips are not measured and are left out", len(missing))
                self._own = self._first.complete(give_up=True)
            elif now - began > HELP_AFTER_S and (request := self._unbegun(missing)):
                logger.info("making first clip %s, which waits elsewhere", request.sample_id)
                self._record(request)  # the task that it belongs to will find the stored clip
            else:
                time.sleep(LOOK_EVERY_S)
        return self._own

    def _unbegun(self, missing: Sequence[SampleRequest]) -> SampleRequest | None:
        ids = self._ledger.unbegun([request.sample_id for request in missing])
        return next((request for request in missing if request.sample_id in ids), None)
