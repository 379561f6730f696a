"""One attempt at one or several samples: recorded before it begins, and bounded in time.

The order matters: the ledger records the attempt before the engine starts, and the clip is stored
(`pipeline.dataset.clip_store`) before its row is passed on. If the process dies in between, it
leaves either nothing, or an mp4 that carries its own row and is taken over instead of made again.

Attempts run one after another in a thread of their own, so that clips are stored while the engine
samples the next ones. An attempt is recorded when its turn has come. What follows a failure is
decided in `pipeline.attempts.batch_runner`.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from pipeline.attempts.call_deadline import CallDeadline
from pipeline.attempts.claim import Claim
from pipeline.attempts.samples_again import SamplesAgain
from pipeline.dataset.clip_store import ClipStore
from pipeline.dataset.schema import Provenance, Row, SampleOutcome, make_row
from pipeline.engine.protocol import BadNodeError, Clip, Engine, EngineDiedError, is_fatal
from pipeline.errors import UserError, message_of
from pipeline.process import (
    EXIT_OVERDUE,
    Worker,
    briefly,
    deadline,
    end_after,
    end_process,
    oom_kills,
)
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

NOTE_S = 20.0
"""Longest wait for the ledger by a process that is about to end."""


class AttemptLedger(Protocol):
    """The ledger as a worker sees it: `Ledger` itself, or a proxy of one in a Ray actor."""

    def claim(self, sample_ids: Sequence[str], where: str, oom_kills: int = 0) -> Claim:
        """Ask to run samples together; records the attempt if it is granted."""
        ...

    def made(self, sample_ids: Sequence[str]) -> None:
        """Record that the engine has made samples, which have yet to be stored."""
        ...

    def taken_over(self, sample_ids: Sequence[str]) -> None:
        """Record that the clips of samples were found in the storage."""
        ...

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """Record the error that ended the latest attempt."""
        ...

    def release(self, sample_ids: Sequence[str]) -> None:
        """Take back the attempt of a batch that raised: its samples are made one by one."""
        ...

    def spent(self, sample_ids: Sequence[str], lost_s: float) -> None:
        """Record the engine seconds of a sample that was given up."""
        ...

    def proven(self, sample_ids: Sequence[str], where: str) -> None:
        """Record that the process which failed at samples can still make another clip."""
        ...

    def broken(self, sample_ids: Sequence[str], where: str, reason: str) -> str:
        """Record that a process ends; returns why the run should stop, "" if it should not."""
        ...


class Attempts:
    """Makes attempts with one engine; attempts of several threads take turns."""

    def __init__(
        self,
        engine: Engine,
        store: ClipStore,
        ledger: AttemptLedger,
        run_id: str,
        *,
        worker: Worker,
        where: str,
        deadline_s: float,
        pairs: ControlPairs,
        calls: int = 1,
    ) -> None:
        """Bind an engine to a store of clips.

        Args:
            engine: The loaded model.
            store: Stores its clips.
            ledger: Records attempts before they begin.
            run_id: Goes into every row.
            worker: This process, for the rows.
            where: Node and process, for the ledger.
            deadline_s: Longest engine call in seconds; after that, or earlier where the calls of
                this process were much shorter, this process ends itself.
            pairs: Knows which controls lack the frames of their sample.
            calls: Engine calls at once. The engine orders them, and charges each clip with what is
                its own of their time.
        """
        self._engine = engine
        self._store = store
        self._ledger = ledger
        self._run_id = run_id
        self._worker = worker
        self._where = where
        self._deadline = CallDeadline(deadline_s)
        self._samples_again = SamplesAgain(engine, pairs, self._deadline)
        self._turns = ThreadPoolExecutor(calls, thread_name_prefix="turns")
        self._dead = ""
        self._wasted_s: defaultdict[str, float] = defaultdict(float)

    def together(self, batch: Sequence[SampleRequest]) -> list[Future[Row]] | None:
        """Make several samples in one engine call; None if they must be made one by one.

        Raises:
            EngineDiedError: The engine is beyond use; every later attempt raises this too.
            Exception: Whatever the engine raised. The attempt is recorded; the caller takes it back
                (`release`) before it makes the samples one by one.
        """
        return self._in_turn(lambda: self._together(batch))

    def alone(self, request: SampleRequest) -> Row:
        """Make one sample; a failed row if its attempts are used up.

        Raises:
            EngineDiedError: The engine is beyond use; every later attempt raises this too.
            Exception: Whatever the engine raised, or the storing of its clip.
        """
        made = self._in_turn(lambda: self._alone(request))
        return made if isinstance(made, dict) else made.result()

    def again(self, request: SampleRequest) -> bool:
        """Whether the engine can make a clip that it has made before; the clip is dropped."""
        return self._in_turn(lambda: self._again(request))

    def give_up(self, reason: str) -> EngineDiedError:
        """Let every later attempt raise; returns the error to raise now."""
        self._dead = self._dead or reason
        return EngineDiedError(self._dead)

    def close(self) -> None:
        """Finish the attempt under way and the storing of clips, then end the engine."""
        self._turns.shutdown(cancel_futures=True)
        try:
            self._store.close()
        finally:
            self._engine.close()

    def _in_turn(self, attempt: Callable[[], _T]) -> _T:
        """Run an attempt after the earlier ones."""
        try:
            turn = self._turns.submit(attempt)
        except RuntimeError as error:  # closed in the meantime
            raise EngineDiedError(self._dead or "the engine is closed") from error
        try:
            return turn.result()
        except CancelledError as error:
            raise EngineDiedError(self._dead or "the engine is closed") from error

    def _together(self, batch: Sequence[SampleRequest]) -> list[Future[Row]] | None:
        claim = self._claim([request.sample_id for request in batch])
        return self._generate(batch, claim) if claim.granted else None

    def _alone(self, request: SampleRequest) -> Row | Future[Row]:
        claim = self._claim([request.sample_id])
        begun = claim.attempts[0]
        if (begun > 1 or not claim.granted) and (
            row := self._store.stored(request.sample_id)
        ) is not None:
            self._ledger.taken_over([request.sample_id])
            return row
        if not claim.granted:
            outcome = SampleOutcome("failed", claim.kind or "WorkerDied", claim.reason)
            provenance = self._provenance(claim, 0, request)
            if wasted_s := self._wasted_s.pop(request.sample_id, 0.0):
                self._ledger.spent([request.sample_id], wasted_s)
            return make_row(request, provenance, outcome)
        if begun > 1:
            self._store.settle()  # should this one kill the process, no other clip is lost
        return self._generate([request], claim)[0]

    def _again(self, request: SampleRequest) -> bool:
        try:
            allowed_s = self._deadline.allowed_s([request])
            with deadline(allowed_s, lambda: end_process(EXIT_OVERDUE)):
                return len(self._engine.generate([request])) == 1
        except Exception:
            _logger.exception("this process cannot make again what it made before")
            return False

    def _claim(self, ids: list[str]) -> Claim:
        if self._dead:  # because of an earlier attempt
            raise EngineDiedError(self._dead)
        claim = self._ledger.claim(ids, self._where, oom_kills())
        if claim.hopeless:
            raise UserError(claim.hopeless)
        if claim.bad_node:
            self._dead = f"node {self._where.rpartition('/')[0]} kills whatever runs on it"
            raise BadNodeError(self._dead)
        return claim

    def _generate(self, batch: Sequence[SampleRequest], claim: Claim) -> list[Future[Row]]:
        """Call the engine, and begin to store its clips."""
        ids = [request.sample_id for request in batch]
        allowed_s = self._deadline.allowed_s(batch)
        called = began = time.monotonic()
        try:
            self._samples_again.make(batch, lambda most_s: self._overdue(ids, most_s))
            called = time.monotonic()
            with deadline(allowed_s, lambda: self._overdue(ids, allowed_s)):
                clips = self._engine.generate(batch)
        except Exception as error:
            spent_s = (time.monotonic() - began) / len(ids)
            self._samples_again.forget(batch)  # the next attempt makes them beside its own call
            if is_fatal(error):
                self._dead = message_of(error)
                kind = type(error.__cause__ or error).__name__
                self._last_note(ids, kind, self._dead, spent_s)
                raise EngineDiedError(self._dead) from error
            for sample_id in ids:
                self._wasted_s[sample_id] += spent_s
            raise
        wall_s = (time.monotonic() - called) / len(ids)
        self._deadline.observe(batch, wall_s * len(ids))
        self._ledger.made(ids)
        rows = []
        for index, (request, clip) in enumerate(zip(batch, clips, strict=True)):
            own_s = wall_s if clip.engine_s is None else clip.engine_s
            provenance = self._provenance(claim, index, request, own_s, clip)
            self._wasted_s[request.sample_id] += own_s  # until it is stored
            row = self._store.begin(request, clip, provenance)
            row.add_done_callback(functools.partial(self._stored, request.sample_id))
            rows.append(row)
        return rows

    def _stored(self, sample_id: str, row: Future[Row]) -> None:
        if row.exception() is None:
            self._wasted_s.pop(sample_id, None)

    def _overdue(self, ids: Sequence[str], allowed_s: float) -> None:
        reason = f"the engine call gave no answer within {allowed_s:g} s"
        lost_s = allowed_s / len(ids)
        end_after(
            EXIT_OVERDUE,
            lambda: self._last_note(ids, "DeadlineExceededError", reason, lost_s),
            within_s=2 * NOTE_S,
        )

    def _last_note(self, ids: Sequence[str], kind: str, reason: str, lost_s: float) -> None:
        """Note the error that ends this process; a ledger that gives no answer cannot stop it."""
        briefly(lambda: self._ledger.note(ids, kind, reason, lost_s), NOTE_S)

    def _provenance(
        self,
        claim: Claim,
        index: int,
        request: SampleRequest,
        wall_s: float = 0.0,
        clip: Clip | None = None,
    ) -> Provenance:
        """The provenance in the row of one sample of a claim."""
        rows = len(claim.attempts)
        text_s = min(wall_s, clip.text_s / rows) if clip else 0.0
        decode_s = min(wall_s - text_s, clip.decode_s / rows) if clip else 0.0
        return Provenance(
            run_id=self._run_id,
            device_name=self._engine.device_name,
            group_size=self._engine.group_size,
            batch_rows=rows,
            attempts=claim.attempts[index],
            wall_s=wall_s,
            peak_memory_bytes=clip.peak_memory_bytes if clip else 0,
            worker=self._worker.to_row(),
            times={
                "text_s": text_s,
                "denoise_s": wall_s - text_s - decode_s,
                "decode_s": decode_s,
                "wasted_s": self._wasted_s[request.sample_id] + claim.lost_s[index],
            },
            **({"parallel": clip.parallel} if clip else {}),
        )
