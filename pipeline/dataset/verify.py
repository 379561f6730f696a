"""Checks that the clip of every ok row is there and whole, and has the others made again.

A row whose clip is missing or damaged becomes a failed row of type `CLIP_DAMAGED` in its part: what
it cost stays known, and its sample counts as pending from then on (`pipeline.dataset.committed`).
If another whole clip of the sample is stored, its row is taken from that instead. Reads every clip
of the prefix once; a part is replaced whole, and only if one of its rows changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.committed import CLIP_DAMAGED, Ids
from pipeline.dataset.parts import foreign, part_files
from pipeline.dataset.recovery import stored_row
from pipeline.dataset.schema import to_table
from pipeline.dataset.whole_clips import NEVER_EMPTY, DamagedClipError, read_clip
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import DamagedTensorsError, read_tensors

THREADS = 16
_NEEDED = ("sample_id", "status", "video", "media_bytes", "media_sha256", *NEVER_EMPTY, "tensors")


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of all clips found.

    Attributes:
        checked: Ok rows whose clips were read.
        damaged: Samples whose clip is missing or damaged, and what is wrong with it.
        rows: Rows of other whole clips of these samples, in `SCHEMA`.
    """

    checked: int = 0
    damaged: Mapping[str, str] = field(default_factory=dict)
    rows: pa.Table = field(default_factory=lambda: to_table([]))

    @property
    def ids(self) -> Ids:
        """Ids of the damaged samples, sorted."""
        return Ids.from_bytes(bytes.fromhex("".join(sorted(self.damaged))))

    @property
    def rebuilt(self) -> Ids:
        """Ids of the rows, sorted."""
        return Ids.from_bytes(bytes.fromhex("".join(sorted(self.rows["sample_id"].to_pylist()))))


def verify(storage: Storage, *, repair: bool = True) -> Verified:
    """Check the clips of all ok rows.

    Args:
        storage: The output prefix.
        repair: Mark the rows of damaged clips in their parts.

    Raises:
        StorageError: The prefix cannot be read or written, or a part is not ours.
    """
    damaged: dict[str, str] = {}
    checked = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for part in part_files(storage):
            table = _read(storage, part)
            rows = [row for row in _rows(table) if row["status"] == "ok"]
            problems = list(pool.map(lambda row: _problem(storage, row), rows))
            checked += len(rows)
            bad = {
                row["place"]: problem
                for row, problem in zip(rows, problems, strict=True)
                if problem
            }
            damaged |= {row["sample_id"]: bad[row["place"]] for row in rows if row["place"] in bad}
            if bad and repair:
                _replace(storage, part, table, bad)
        found = list(pool.map(lambda each: stored_row(storage, each), sorted(damaged)))
    return Verified(checked, damaged, to_table([row for row in found if row is not None]))


def _read(storage: Storage, part: StoredFile) -> pa.Table:
    try:
        return pq.ParquetFile(BytesIO(storage.read_bytes(part.key))).read()
    except pa.ArrowException as error:
        raise foreign(f"{storage.uri}/{part.key}", error) from error


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    there = [name for name in _NEEDED if name in table.column_names]
    for place, row in enumerate(table.select(there).to_pylist()):
        yield row | {"place": place}


def _problem(storage: Storage, row: Mapping[str, Any]) -> str:
    try:
        read_clip(storage, row)
        read_tensors(storage, row)
    except (DamagedClipError, DamagedTensorsError) as error:
        return str(error)
    return ""


def _replace(storage: Storage, part: StoredFile, table: pa.Table, bad: Mapping[int, str]) -> None:
    """Store a part anew, with some of its rows failed."""
    for name, value in (("status", "failed"), ("error_type", CLIP_DAMAGED), ("error_message", "")):
        cells = table[name].to_pylist()
        for place, problem in bad.items():
            cells[place] = value or problem
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(cells, pa.string()))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.put_bytes(part.key, sink.getvalue().to_pybytes())
