"""Stores finished clips as mp4 files and returns their rows.

The mp4 is in storage before its row is passed on. Separate threads encode and upload, so that the
engine samples the next clips meanwhile. The first stored clip of an id stays, whichever worker
made it. Where the store cannot tell who was first, or a damaged clip has the name, a clip gets a
name of its own, so that no writer replaces what another one's row refers to. Knows nothing of
attempts.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from pipeline.calibration.measurement import measurement_key, not_measured
from pipeline.dataset import mp4
from pipeline.dataset.mp4_sound import Samples
from pipeline.dataset.recovery import stored_row
from pipeline.dataset.schema import (
    Provenance,
    Row,
    SampleOutcome,
    draft_clip_key,
    draft_key,
    make_row,
    media_key,
)
from pipeline.engine.protocol import Clip
from pipeline.errors import StorageError
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.scorer import ScoredClip
from pipeline.storage.faults import explain, is_full
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import tensors_struct

THREADS = 8
"""Clips encoded and stored at once; most of that time is waiting."""

WRITER_DIGITS = 12

OF_ATTEMPT = (
    *("run_id", "attempts", "wall_s", "gpu_s", "device_name", "group_size", "batch_rows"),
    *("peak_memory_bytes", "worker", "times", "parallel"),
)
"""Columns that tell of an attempt: its run, its place and its cost."""

NICENESS = 10
"""Niceness of these threads: a tenth of the engine's weight when both want a core."""


class ClipStore:
    """Stores the clips of one worker."""

    def __init__(
        self,
        storage: Storage,
        pairs: ControlPairs,
        panel: ScorerPanel,
        where: str,
        *,
        keep_drafts: bool = False,
        draft_panel: ScorerPanel | None = None,
    ) -> None:
        """Open an output prefix for clips.

        Args:
            storage: The output prefix.
            pairs: Compares samples with their controls before H.264 adds its own loss.
            panel: Scores clips, also before they are encoded.
            where: Node and process, for error messages.
            keep_drafts: Whether the clips of drafts are stored, beside their rows.
            draft_panel: Scores drafts; by default `panel`.
        """
        self._storage, self._keep_drafts = storage, keep_drafts
        self._pairs = pairs
        self._panel, self._draft_panel = panel, draft_panel or panel
        self._where = where
        self._threads = ThreadPoolExecutor(
            THREADS, thread_name_prefix="store", initializer=_lower_priority
        )
        self._begun: set[Future[Row]] = set()

    def begin(self, request: SampleRequest, clip: Clip, provenance: Provenance) -> Future[Row]:
        """Begin to store a clip.

        Returns:
            A future of its row. If another worker has stored a clip of the sample before, the row
            describes that clip and has the cost of this attempt, so that reports count the device
            time of both. It raises `StorageError` if no clip can be encoded here or written to the
            storage.
        """
        self._pairs.keep(request, clip)
        row = self._threads.submit(self._store, request, clip, provenance)
        self._begun.add(row)
        row.add_done_callback(self._begun.discard)
        return row

    def stored(self, sample_id: str) -> Row | None:
        """The row of a clip that is stored already, None if there is no undamaged one."""
        return stored_row(self._storage, sample_id)

    def settle(self) -> None:
        """Wait until every clip that was begun is stored or has failed."""
        wait(self._begun.copy())

    def close(self) -> None:
        """Finish the clips that were begun; may be called again."""
        self._threads.shutdown()

    def _store(self, request: SampleRequest, clip: Clip, provenance: Provenance) -> Row:
        row = make_row(
            request,
            provenance,
            SampleOutcome(
                "ok",
                cache=clip.cache,
                prompt_tokens=clip.prompt_tokens,
                audio_sample_rate=clip.sound.rate if clip.sound else 0,
            ),
        )
        row["quality"] = self._pairs.quality(request, clip)
        seen = ScoredClip(clip.frames, request.fps, request.prompt, row)
        panel = self._draft_panel if request.draft_of else self._panel
        row |= panel.score(seen).to_row()
        row["good"] = panel.is_good(row)
        if request.draft_of:
            return self._store_draft(clip, row)
        if request.records and not self._storage.exists(key := measurement_key(request)):
            # Before the mp4, so that every stored clip has been measured.
            text = clip.measurement or not_measured("its engine records nothing")
            self._storage.put_bytes(key, text.encode())
        tensors_s = self._store_tensors(clip, row)
        for key, is_own in self._keys(row["sample_id"]):
            row["video"]["path"] = key
            began = time.monotonic()
            # The file carries its row.
            data = self._encode(clip, request.fps, row)
            encoded = time.monotonic()
            if is_own:
                self._storage.put_bytes(key, data)
            elif not self._storage.create_bytes(key, data):
                if (earlier := self.stored(row["sample_id"])) is not None:
                    self._drop_tensors(row, earlier)
                    # By another worker, or by a try whose answer was lost.
                    return _with_cost(earlier, row)
                continue
            break
        return row | {
            "media_bytes": len(data),
            "media_sha256": hashlib.sha256(data).hexdigest(),
            "encode_s": encoded - began,
            "upload_s": time.monotonic() - encoded + tensors_s,
        }

    def _keys(self, sample_id: str) -> Iterator[tuple[str, bool]]:
        """Names that the clip of a sample may get, and whether they are this writer's own."""
        if self._storage.conditional:
            yield media_key(sample_id), False
        yield media_key(sample_id, uuid.uuid4().hex[:WRITER_DIGITS]), True

    def _store_tensors(self, clip: Clip, row: Row) -> float:
        """Store what a trainer reads, and put it into the row; returns the seconds.

        Before the mp4, so that no clip refers to tensors that are not there. A clip that is not
        good has none.
        """
        if clip.tensors is None or row["good"] is False:
            return 0.0
        began = time.monotonic()
        row["tensors"] = tensors_struct(row["sample_id"], clip.tensors)
        self._storage.put_bytes(row["tensors"]["path"], clip.tensors)
        return time.monotonic() - began

    def _drop_tensors(self, row: Row, earlier: Row) -> None:
        """Delete what this worker has stored for a clip that another one had stored before."""
        own, other = ((each.get("tensors") or {}).get("path") for each in (row, earlier))
        if own and own != other:
            self._storage.delete(own)

    def _store_draft(self, clip: Clip, row: Row) -> Row:
        """Store the row of a draft, and before it the clip where drafts are kept.

        Both lie outside of the dataset's rows and media, so no reader or export takes them for it.
        """
        sample_id = row["sample_id"]
        row |= {"video": None, "num_frames": len(clip.frames)}
        if self._keep_drafts:
            row["video"] = {"bytes": None, "path": draft_clip_key(sample_id)}
            data = self._encode(clip, row["fps"], row)
            self._storage.put_bytes(draft_clip_key(sample_id), data)
        self._storage.put_bytes(draft_key(sample_id), mp4.row_json(row).encode())
        return row

    def _encode(self, clip: Clip, fps: int, row: Row) -> bytes:
        """Encode a clip with its row.

        Raises:
            StorageError: The local disk, which encoding needs outside of Linux, is full.
        """
        try:
            return mp4.encode(clip.frames, fps, row, sound=_track(clip))
        except OSError as error:
            if is_full(error):  # the node's fault: no other sample could be stored here either
                where = f"{tempfile.gettempdir()} on {self._where}"
                raise StorageError(f"cannot encode clips in {where}: {explain(error)}") from error
            raise


def _with_cost(earlier: Row, made: Row) -> Row:
    """The row of an earlier clip, with the cost of the attempt whose clip is discarded."""
    row = earlier | {name: made[name] for name in OF_ATTEMPT}
    if row["quality"] and made["quality"]:
        row["quality"] |= {"clip_wall_s": made["quality"].get("clip_wall_s")}
    return row


def _track(clip: Clip) -> tuple[Samples, int] | None:
    """The sound of a clip as its mp4 takes it."""
    return (clip.sound.samples, clip.sound.rate) if clip.sound else None


def _lower_priority() -> None:
    """Let the engine's threads go first: they launch kernels, or compute on the CPU."""
    if sys.platform == "linux":  # elsewhere niceness belongs to the process, not to the thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
