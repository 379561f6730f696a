"""Finds clips whose row was lost, checks them, and rebuilds their rows.

A clip is stored before its row exists, and rows wait in buffers, so a run that is killed leaves
clips without rows. Each clip carries its row and a hash over all its bytes
(`pipeline.dataset.mp4`), so it is never made again. A run that follows one that did not end well,
or one of whose parts is gone, looks for all of them once; a worker looks for the clip of an attempt
that died.

Recovery lists `media/` and reads only the clips without a row: as many as were under way when runs
died, or as the missing parts held. It does not know why a run died, and never writes.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.dataset import mp4
from pipeline.dataset.committed import Committed, Ids
from pipeline.dataset.manifest import RunStatus, Search
from pipeline.dataset.parts import PartName, missing_parts, part_files
from pipeline.dataset.schema import media_key, to_table
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import DamagedTensorsError, read_tensors

THREADS = 16
SHARDS = tuple(f"media/{shard:02x}/" for shard in range(256))

_CLIP = re.compile(r"media/([0-9a-f]{2})/(\1[0-9a-f]{18})(?:-[0-9a-f]+)?\.mp4")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a run found of earlier runs.

    Attributes:
        after: The run that did not end well and may have left clips; "" if there is none.
        rows: Rows of the clips that had lost theirs, in `SCHEMA`.
        damaged: Clips without a row that cannot be trusted; their samples are made again.
        goes_on: The run is alive and may write the same rows; one row of each id counts.
        searched: What to note of all runs that may have left clips.
        lost: Numbers of the parts that are gone, by the run that wrote them. If this and `after`
            are empty, nothing was searched.
    """

    after: str = ""
    rows: pa.Table = field(default_factory=lambda: to_table([]))
    damaged: int = 0
    goes_on: bool = False
    searched: Mapping[str, Search] = field(default_factory=dict)
    lost: Mapping[str, Sequence[PartName]] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether a run must record something: rows, or that it searched after a loss of parts."""
        return bool(self.rows.num_rows or self.lost)

    @property
    def ids(self) -> Ids:
        """Sample ids of the rows."""
        return Ids.from_hex(self.rows["sample_id"])


def recover(storage: Storage, committed: Committed, runs: Sequence[RunStatus]) -> Recovery:
    """Rebuild the rows of all clips that have none, if a run may have left such clips.

    Args:
        storage: The output prefix.
        committed: Its finished samples.
        runs: All runs, newest first. Clips can be left by a run that did not end as `done`, until
            a later one has noted that it searched when that run was over; and by the loss of a part
            (`pipeline.dataset.parts.missing_parts`). Times are not compared: the clocks of two
            machines differ.

    Raises:
        StorageError: The prefix cannot be read.
    """
    settled = {run_id for run in runs for run_id, found in run.searched.items() if found["over"]}
    left = [run for run in runs if run.state != "done" and run.run_id not in settled]
    lost = missing_parts(part_files(storage), runs)
    if not left and not lost:
        return Recovery()
    with ThreadPoolExecutor(THREADS) as pool:
        shards = pool.map(lambda shard: _without_row(storage, shard, committed), SHARDS)
        clips = {sample_id: keys for shard in shards for sample_id, keys in shard.items()}
        found = list(pool.map(lambda of_one: _first_row(storage, *of_one), clips.items()))
    rows = [row for row in found if row is not None]
    searched = {run.run_id: Search(seen_at=run.seen_at, over=run.is_over(runs)) for run in left}
    seen = {run.run_id: run.seen_at for run in runs}
    for run_id, numbers in lost.items():
        searched[run_id] = Search(seen_at=seen.get(run_id, ""), over=True, lost=[*numbers])
    after, goes_on = (left[0].run_id, left[0].alive) if left else ("", False)
    return Recovery(after, to_table(rows), len(clips) - len(rows), goes_on, searched, lost)


def stored_row(storage: Storage, sample_id: str) -> dict[str, Any] | None:
    """The row of a sample from its stored clip; None if there is no undamaged clip.

    Raises:
        StorageError: The store cannot be read.
    """
    key = media_key(sample_id)
    row = _row(storage, sample_id, key) if storage.exists(key) else None
    if row is not None:
        return row
    # Writers that could not have the plain name took others.
    others = storage.list(key.removesuffix(".mp4") + "-")
    return _first_row(storage, sample_id, [entry.key for entry in others])


def _first_row(storage: Storage, sample_id: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The row of the first undamaged of several clips of one sample."""
    rows = (_row(storage, sample_id, key) for key in keys)
    return next((row for row in rows if row is not None), None)


def _row(storage: Storage, sample_id: str, key: str) -> dict[str, Any] | None:
    data = storage.read_bytes(key)
    try:
        row = mp4.trusted_row(data)
        row["created_at"] = datetime.datetime.fromisoformat(row["created_at"])
        row |= {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        row["video"] = {"bytes": None, "path": key}
        to_table([row])
        read_tensors(storage, row)  # a clip without its tensors is not whole
    except (ValueError, KeyError, TypeError, OSError, DamagedTensorsError):
        return None
    return row if row["sample_id"] == sample_id else None


def _without_row(storage: Storage, shard: str, committed: Committed) -> dict[str, list[str]]:
    """The clips of each sample that has no row."""
    clips: dict[str, list[str]] = {}
    for entry in storage.list(shard):
        if name := _CLIP.fullmatch(entry.key):
            clips.setdefault(name[2], []).append(entry.key)
    known = committed.contains(Ids.from_bytes(bytes.fromhex("".join(clips))))
    return {each: keys for (each, keys), done in zip(clips.items(), known, strict=True) if not done}
