"""Notices a process that fails at one sample after another, and ends it.

After `IN_A_ROW` different samples without a clip in between, the process makes again a clip that it
has made before. If it can, the samples are to blame. If it cannot, or has made none, the process is
to blame: the samples get their attempts back, and it ends, so that a fresh one takes over.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.attempts.attempt import NOTE_S, AttemptLedger, Attempts
from pipeline.attempts.blame import IN_A_ROW
from pipeline.errors import UserError
from pipeline.process import briefly
from pipeline.requests.sample_request import SampleRequest


class FailuresInARow:
    """Failures of one process since it last made a clip; called by several threads."""

    def __init__(self, attempts: Attempts, ledger: AttemptLedger, where: str) -> None:
        """Watch a process.

        Args:
            attempts: Its attempts.
            ledger: Hears of a broken process.
            where: Node and process, for the ledger.
        """
        self._attempts, self._ledger, self._where = attempts, ledger, where
        self._failed: dict[str, str] = {}
        self._able: SampleRequest | None = None
        self._lock = threading.Lock()

    def made(self, request: SampleRequest) -> None:
        """Record that this process made and stored a clip."""
        with self._lock:
            self._able = request
            self._failed.clear()

    def failed(self, request: SampleRequest, error: str) -> None:
        """Record that a sample used up its attempts here by raising.

        Raises:
            EngineDiedError: This process is broken and should end.
            UserError: So is the whole run.
        """
        with self._lock:
            self._failed[request.sample_id] = error
            if len(self._failed) < IN_A_ROW:
                return
            victims, able = list(self._failed), self._able
            self._failed.clear()
        if able is not None and self._attempts.again(able):
            self._ledger.proven(victims, self._where)
            return
        self._end(victims, error)

    def _end(self, victims: Sequence[str], error: str) -> None:
        reason = (
            f"{len(victims)} different samples in a row failed in process {self._where}, which "
            f"made nothing in between: {error}"
        )
        dead = self._attempts.give_up(reason)
        answers: list[str] = []
        briefly(lambda: answers.append(self._ledger.broken(victims, self._where, reason)), NOTE_S)
        if answers and answers[0]:
            raise UserError(answers[0])
        raise dead
