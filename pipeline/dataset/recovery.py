"""Clips whose row was lost: found in the store, checked, and their rows rebuilt.

A clip is stored before its row exists, and rows wait in buffers, so a run that is killed leaves
clips without rows. Each carries its row and a hash over all its bytes (`pipeline.dataset.mp4`).
They are never made again: at the start of a run after one that did not end well they are all looked
for once, and a worker looks for the clip of an attempt that died.

The pass lists `media/` and reads only what no row speaks of: as much as was under way when runs
died. It does not know why a run died, and never writes.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.dataset import mp4
from pipeline.dataset.committed import Committed, Ids
from pipeline.dataset.manifest import Sign
from pipeline.dataset.schema import media_key, to_table
from pipeline.storage.storage import Storage

THREADS = 16
SHARDS = tuple(f"media/{shard:02x}/" for shard in range(256))

_CLIP = re.compile(r"media/([0-9a-f]{2})/(\1[0-9a-f]{18})\.mp4")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a pass found.

    Attributes:
        after: The run that may have left clips; "" where there was none and nothing was looked for.
        goes_on: It is alive: it may write the same rows, and one of each id counts.
        rows: Of clips that had lost theirs, in `SCHEMA`.
        damaged: Clips without a row that cannot be trusted; their samples are made again.
    """

    after: str = ""
    rows: pa.Table = field(default_factory=lambda: to_table([]))
    damaged: int = 0
    goes_on: bool = False

    @property
    def ids(self) -> Ids:
        """Of the rows."""
        return Ids.from_hex(self.rows["sample_id"])


def recover(storage: Storage, committed: Committed, signs: Sequence[Sign]) -> Recovery:
    """Rebuild the rows of all clips that have none, if a run may have left such clips.

    Args:
        storage: The output prefix.
        committed: What it holds.
        signs: Of the latest runs, newest first. Every run begins with a pass, so what may have left
            clips is a run that did not end as `done` and outlived the beginnings of all later ones.

    Raises:
        StorageError: The prefix cannot be read.
    """
    left = [
        sign
        for place, sign in enumerate(signs)
        if sign.state != "done" and all(later.began_s > sign.age_s for later in signs[:place])
    ]
    if not left:
        return Recovery()
    with ThreadPoolExecutor(THREADS) as pool:
        shards = pool.map(lambda shard: _without_row(storage, shard, committed), SHARDS)
        lost = [sample_id for shard in shards for sample_id in shard]
        found = list(pool.map(lambda sample_id: stored_row(storage, sample_id), lost))
    rows = [row for row in found if row is not None]
    return Recovery(left[0].run_id, to_table(rows), len(lost) - len(rows), left[0].alive)


def stored_row(storage: Storage, sample_id: str) -> dict[str, Any] | None:
    """The row of a sample whose clip is stored, from the clip itself; None without a whole clip.

    Raises:
        StorageError: The store cannot be read.
    """
    key = media_key(sample_id)
    if not storage.exists(key):
        return None
    data = storage.read_bytes(key)
    try:
        row = mp4.trusted_row(data)
        row["created_at"] = datetime.datetime.fromisoformat(row["created_at"])
        row |= {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        to_table([row])
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return row if row["sample_id"] == sample_id else None


def _without_row(storage: Storage, shard: str, committed: Committed) -> list[str]:
    names = [_CLIP.fullmatch(entry.key) for entry in storage.list(shard)]
    ids = [name[2] for name in names if name]
    known = committed.contains(Ids.from_bytes(bytes.fromhex("".join(ids))))
    return [sample_id for sample_id, done in zip(ids, known, strict=True) if not done]
