"""Clips to mp4 files in storage, and the rows that speak of them.

The mp4 is in storage before its row is handed on. Encoding and uploading are done by threads of
their own, so that the engine can sample the next clips meanwhile. The first clip of an id stays,
whoever stored it. Knows nothing of attempts.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline.dataset import mp4
from pipeline.dataset.recovery import stored_row
from pipeline.dataset.schema import (
    Execution,
    SampleOutcome,
    make_row,
    media_key,
)
from pipeline.engine.protocol import Clip
from pipeline.errors import StorageError
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs
from pipeline.storage.faults import explain, is_full
from pipeline.storage.storage import Storage

THREADS = 8
"""Clips are encoded and stored side by side: most of that time is waiting."""

NICENESS = 10
"""Of those threads: a tenth of the engine's weight where both want a core."""

Row = dict[str, Any]
"""An output row as plain values."""


class ClipStore:
    """Stores the clips of one worker."""

    def __init__(self, storage: Storage, pairs: ControlPairs, where: str) -> None:
        """Open an output prefix for clips.

        Args:
            storage: The output prefix.
            pairs: Compares samples with their controls before H.264 adds its own loss.
            where: Node and process, for error messages.
        """
        self._storage = storage
        self._pairs = pairs
        self._where = where
        self._threads = ThreadPoolExecutor(
            THREADS, thread_name_prefix="store", initializer=_stand_back
        )
        self._begun: set[Future[Row]] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="clips-")

    def begin(self, request: SampleRequest, clip: Clip, execution: Execution) -> Future[Row]:
        """Begin to store a clip.

        Returns:
            Its row, once the clip is stored; or the row of the clip that was there before.
            `StorageError` if clips cannot be written here or there, whichever they are.
        """
        self._pairs.keep(request, clip.frames)
        row = self._threads.submit(self._store, request, clip, execution)
        self._begun.add(row)
        row.add_done_callback(self._begun.discard)
        return row

    def stored(self, sample_id: str) -> Row | None:
        """The row of a clip that is stored already, None without a whole one."""
        return stored_row(self._storage, sample_id)

    def settle(self) -> None:
        """Wait until everything that was begun is stored, or has failed."""
        wait(self._begun.copy())

    def close(self) -> None:
        """Finish what was begun; harmless when called again."""
        self._threads.shutdown()

    def _store(self, request: SampleRequest, clip: Clip, execution: Execution) -> Row:
        row = make_row(request, execution, SampleOutcome("ok", cache=clip.cache))
        row["quality"] = self._pairs.quality(request, clip.frames)
        key = media_key(request.sample_id)
        path = Path(self._folder.name) / f"{request.sample_id}.mp4"
        try:
            began = time.monotonic()
            mp4.encode(clip.frames, request.fps, row, path)
            encoded = time.monotonic()
            if not self._storage.create_file(key, path):
                if (there := self.stored(request.sample_id)) is not None:
                    return there  # another worker's, or a try whose answer was lost: first wins
                self._storage.put_file(key, path)
            uploaded = time.monotonic()
            data = path.read_bytes()
        except OSError as error:
            if is_full(error):  # the node's fault: no sample would fare better here
                raise StorageError(
                    f"cannot write clips to {self._folder.name} on {self._where}: {explain(error)}"
                ) from error
            raise
        finally:
            path.unlink(missing_ok=True)
        return row | {
            "media_bytes": len(data),
            "media_sha256": hashlib.sha256(data).hexdigest(),
            "encode_s": encoded - began,
            "upload_s": uploaded - encoded,
        }


def _stand_back() -> None:
    """Let the engine go first: its threads launch kernels, or are the device."""
    if sys.platform == "linux":  # elsewhere niceness belongs to the process, not to the thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
