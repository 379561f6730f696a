"""A prefix of six clips in three parts, one of them damaged, beside a failed row."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.dataset import mp4
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import media_key, rejected_row, to_table
from pipeline.storage.storage import Storage
from tests.pipeline.scoring.made_clips import moving

IDS = [f"{number:020x}" for number in range(6)]
DAMAGED = IDS[4]


def six_clips(folder: Path) -> Storage:
    """Make the prefix; clip k has the caption `caption k`, and clip 0 is of an earlier version."""
    storage = Storage(str(folder / "out"))
    writer = PartWriter(storage, "r", part_rows=3, part_seconds=1e9)
    rows = []
    for number, sample_id in enumerate(IDS):
        path, file = media_key(sample_id), folder / "clip.mp4"
        mp4.write(moving(number, frames=3), 8, {"sample_id": sample_id}, file)
        data = file.read_bytes()
        storage.put_bytes(path, data if sample_id != DAMAGED else data[:-9])
        row = rejected_row(sample_id, f"caption {number}", "", "demo", "r", "")
        row |= {"status": "ok", "fps": 8, "video": {"bytes": None, "path": path}}
        row |= {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        rows.append(row | ({"control_of": None} if number == 0 else {}))
    for row in [*rows, rejected_row("e" * 20, "", "", "demo", "r", "no prompt")]:
        writer.add(to_table([row]))
    writer.flush()
    return storage
