"""Requests to finished rows with their media stored: the work of one group, without Ray.

Order matters and is the whole point: the attempt is in the ledger before the engine starts, the mp4
is in storage before its row exists, and the row is handed on last. Whatever dies in between leaves
either nothing, or an mp4 that carries its own row and is taken over instead of made again.

The engine has a thread of its own, so that clips are encoded and stored while it samples the next
ones: two callers of `produce` take turns at it. An attempt is recorded when its turn has come.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipeline import media
from pipeline.controls import Pairs
from pipeline.deadline import EXIT_OVERDUE, deadline
from pipeline.engine import BadNodeError, Clip, Engine, EngineDiedError, batch_key
from pipeline.errors import StorageError, UserError
from pipeline.faults import explain, is_full
from pipeline.ledger import Claim
from pipeline.memory import oom_kills
from pipeline.recovery import stored_row
from pipeline.request import SampleRequest
from pipeline.schema import Execution, Outcome, make_row, media_key
from pipeline.storage import Storage
from pipeline.worker import Worker

STORE_THREADS = 8
"""Clips are encoded and stored side by side: most of that time is waiting."""

Row = dict[str, Any]
"""An output row as plain values."""

_T = TypeVar("_T")

MAX_MESSAGE_CHARS = 2000
"""Error text kept in a row; a CUDA traceback can be far longer than the row is worth."""


class Attempts(Protocol):
    """The ledger as a worker sees it: the class itself, or a Ray actor behind a proxy."""

    def claim(self, sample_ids: Sequence[str], where: str, oom_kills: int = 0) -> Claim:
        """See `Ledger.claim`."""
        ...

    def made(self, sample_ids: Sequence[str]) -> None:
        """See `Ledger.made`."""
        ...

    def note(self, sample_ids: Sequence[str], kind: str, reason: str, lost_s: float = 0.0) -> None:
        """See `Ledger.note`."""
        ...

    def release(self, sample_ids: Sequence[str]) -> None:
        """See `Ledger.release`."""
        ...


class Producer:
    """Runs an engine on batches of requests and stores what comes out."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        ledger: Attempts,
        run_id: str,
        *,
        batch_rows: int,
        worker: Worker | None = None,
        node: str = "",
        deadline_s: float = math.inf,
    ) -> None:
        """Bind an engine to an output prefix.

        Args:
            engine: The loaded model.
            storage: The output prefix.
            ledger: Where attempts are recorded before they begin.
            run_id: Goes into every row.
            batch_rows: Most samples in one engine call.
            worker: This process, for the rows; one that has just been loaded if left out.
            node: Where this is, for the ledger; the host's name if left out.
            deadline_s: Seconds that an engine call may take; then this process ends itself.
        """
        self._engine = engine
        self._storage = storage
        self._ledger = ledger
        self._run_id = run_id
        self._batch_rows = batch_rows
        self._worker = worker or Worker.loaded(time.monotonic())
        self._pairs = Pairs()
        self._wasted: defaultdict[str, float] = defaultdict(float)
        self._lost_s: dict[str, float] = {}
        # One thread for all calls of the engine: threads of OpenMP and the current device of CUDA
        # belong to the thread that calls.
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._stores = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._storing: set[Future[Row]] = set()
        self._lost = ""
        self._folder = tempfile.TemporaryDirectory(prefix="clips-")
        self._where = f"{node or socket.gethostname()}/{os.getpid()}"
        self._deadline_s = deadline_s

    def produce(self, requests: Sequence[SampleRequest]) -> list[Row]:
        """Make every request and return one output row each, in order.

        Requests that can share an engine call do. If such a call fails, its requests are made one
        by one, so only the guilty one fails. The ledger forgets a sample when the driver has its
        row: if the row is lost before, with this process or its node, the clip is taken over, not
        made again.

        Several threads may call it at once: their engine calls take turns, in the order in which
        they are ready, and what one has made is stored while the next is made. Each caller holds
        the clips of one engine call at most.

        Raises:
            EngineDiedError: The engine is beyond use (lost CUDA context, dead rank). The attempt is
                recorded; the process should exit so that the task runs again elsewhere.
            UserError: The engine cannot serve these settings, or the output prefix cannot be
                written; no sample is to blame and the run must stop.
        """
        batches: dict[tuple[object, ...], list[SampleRequest]] = {}
        rows: dict[str, Row] = {}
        with self._pairs.among(requests):
            for request in requests:
                key = (*batch_key(request), self._pairs.role(request))
                batches.setdefault(key, []).append(request)
            for alike in batches.values():
                for start in range(0, len(alike), self._batch_rows):
                    for row in self._together(alike[start : start + self._batch_rows]):
                        rows[row["sample_id"]] = row
        return [rows[request.sample_id] for request in requests]

    def close(self) -> None:
        """Finish what is being stored, then end the engine; harmless when called again."""
        self._turns.shutdown(cancel_futures=True)
        self._stores.shutdown()
        self._engine.close()

    def _together(self, batch: list[SampleRequest]) -> list[Row]:
        if len(batch) == 1:
            return [self._alone(batch[0])]
        stored: list[Future[Row]] | None = None
        try:
            stored = self._in_turn(self._make_batch, batch)
        except (EngineDiedError, UserError):
            raise
        except Exception:  # noqa: BLE001 - any fault of a batch is settled row by row
            self._ledger.release([request.sample_id for request in batch])
        # Outside the handler: an exception in flight would keep the batch's device memory alive.
        if stored is None:
            return [self._alone(request) for request in batch]
        wait(stored)  # all of them, before a fault of one is settled
        return [
            self._settled(request, each.exception() or each.result())
            for request, each in zip(batch, stored, strict=True)
        ]

    def _settled(self, request: SampleRequest, outcome: Any) -> Row:
        """The row of a stored clip, or that of another attempt if it could not be stored."""
        if not isinstance(outcome, BaseException):
            row: Row = outcome
            return row
        if isinstance(outcome, UserError) or not isinstance(outcome, Exception):
            raise outcome
        self._ledger.note([request.sample_id], type(outcome).__name__, _short(outcome))
        return self._alone(request)

    def _alone(self, request: SampleRequest) -> Row:
        """Make one sample, attempt after attempt, until it is ok or its attempts are used up."""
        while True:
            try:
                made = self._in_turn(self._make_one, request)
                return made if isinstance(made, dict) else made.result()
            except (EngineDiedError, UserError):
                raise
            except Exception as error:  # noqa: BLE001 - it becomes the row's error
                self._ledger.note([request.sample_id], type(error).__name__, _short(error))

    def _in_turn(self, step: Callable[..., _T], subject: Any) -> _T:
        """Run a step on the engine's thread, when those before it are through."""
        try:
            turn = self._turns.submit(step, subject)
        except RuntimeError as error:  # closed meanwhile
            raise EngineDiedError(self._lost or "the engine is closed") from error
        try:
            return turn.result()
        except CancelledError as error:
            raise EngineDiedError(self._lost or "the engine is closed") from error

    def _make_batch(self, batch: list[SampleRequest]) -> list[Future[Row]] | None:
        """One call for several samples; None if they must be made one by one."""
        self._check_engine()
        claim = self._claim([request.sample_id for request in batch])
        return self._generate(batch, claim.attempts) if claim.granted else None

    def _make_one(self, request: SampleRequest) -> Row | Future[Row]:
        """One attempt at one sample; its row where there is nothing left to make."""
        self._check_engine()
        claim = self._claim([request.sample_id])
        begun = claim.attempts[0]
        if (begun > 1 or not claim.granted) and (
            row := stored_row(self._storage, request.sample_id)
        ) is not None:
            self._ledger.made([request.sample_id])  # nothing of it can kill the process any more
            return row
        if not claim.granted:
            outcome = Outcome("failed", claim.kind or "WorkerDied", claim.reason)
            return make_row(request, self._execution(1, begun, request.sample_id), outcome)
        if begun > 1:
            wait(self._storing.copy())  # if this one kills the process, it shall take none with it
        return self._generate([request], [begun])[0]

    def _claim(self, ids: list[str]) -> Claim:
        claim = self._ledger.claim(ids, self._where, oom_kills())
        if claim.bad_node:
            self._lost = f"node {self._where.rpartition('/')[0]} kills whatever runs on it"
            raise BadNodeError(self._lost)
        self._lost_s.update(zip(ids, claim.lost_s, strict=True))
        return claim

    def _overdue(self, ids: Sequence[str]) -> None:
        reason = f"the engine call gave no answer within {self._deadline_s:g} s"
        self._ledger.note(ids, "DeadlineExceededError", reason, self._deadline_s / len(ids))
        os._exit(EXIT_OVERDUE)

    def _check_engine(self) -> None:
        if self._lost:
            raise EngineDiedError(self._lost)

    def _generate(
        self, batch: Sequence[SampleRequest], attempts: Sequence[int]
    ) -> list[Future[Row]]:
        """Call the engine, and begin to store what it gave."""
        ids = [request.sample_id for request in batch]
        began = time.monotonic()
        try:
            with deadline(self._deadline_s, lambda: self._overdue(ids)):
                clips = self._engine.generate(batch)
        except Exception as error:
            spent = (time.monotonic() - began) / len(ids)
            if _is_fatal(error):
                self._lost = _short(error)
                self._ledger.note(ids, type(error.__cause__ or error).__name__, self._lost, spent)
                raise EngineDiedError(self._lost) from error
            for sample_id in ids:
                self._wasted[sample_id] += spent
            raise
        wall = (time.monotonic() - began) / len(batch)
        self._ledger.made(ids)
        rows = []
        for request, attempt, clip in zip(batch, attempts, clips, strict=True):
            self._pairs.keep(request, clip.frames)
            execution = self._execution(len(batch), attempt, request.sample_id, wall, clip)
            row = self._stores.submit(self._store, request, clip, execution)
            self._storing.add(row)
            row.add_done_callback(self._storing.discard)
            rows.append(row)
        return rows

    def _store(self, request: SampleRequest, clip: Clip, execution: Execution) -> Row:
        row = make_row(request, execution, Outcome("ok", cache=clip.cache))
        row["quality"] = self._pairs.quality(request, clip.frames)
        path = Path(self._folder.name) / f"{request.sample_id}.mp4"
        try:
            began = time.monotonic()
            media.encode(clip.frames, request.fps, row, path)
            encoded = time.monotonic()
            if not self._storage.create_file(media_key(request.sample_id), path):
                there = stored_row(self._storage, request.sample_id)
                if there is not None:
                    return there  # another worker's, or a try whose answer was lost: first wins
                self._storage.put_file(media_key(request.sample_id), path)
            spent = {"encode_s": encoded - began, "upload_s": time.monotonic() - encoded}
            return _with_media(row, path.read_bytes()) | spent
        except OSError as error:
            if is_full(error):  # the node's fault: no sample would fare better here
                raise StorageError(
                    f"cannot write clips to {self._folder.name} on {self._where}: {explain(error)}"
                ) from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def _execution(
        self,
        batch_rows: int,
        attempts: int,
        sample_id: str,
        wall_s: float = 0.0,
        clip: Clip | None = None,
    ) -> Execution:
        text_s = min(wall_s, clip.text_s / batch_rows) if clip else 0.0
        decode_s = min(wall_s - text_s, clip.decode_s / batch_rows) if clip else 0.0
        return Execution(
            run_id=self._run_id,
            device_name=self._engine.device_name,
            group_size=self._engine.group_size,
            batch_rows=batch_rows,
            attempts=attempts,
            wall_s=wall_s,
            peak_memory_bytes=clip.peak_memory_bytes if clip else 0,
            worker=self._worker.struct(),
            times={
                "text_s": text_s,
                "denoise_s": wall_s - text_s - decode_s,
                "decode_s": decode_s,
                "wasted_s": self._wasted.pop(sample_id, 0.0) + self._lost_s.pop(sample_id, 0.0),
            },
            **({"parallel": clip.parallel} if clip else {}),
        )


def _with_media(row: Row, data: bytes) -> Row:
    return row | {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _is_fatal(error: BaseException) -> bool:
    """A CUDA or NCCL fault leaves a context in which every later call fails too (torch 2.x)."""
    if isinstance(error, EngineDiedError):
        return True
    text = str(error)
    sticky = "CUDA error" in text or "NCCL error" in text or "cuDNN error" in text
    return type(error).__name__ == "AcceleratorError" or sticky
