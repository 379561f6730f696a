"""The index of a dataset: `metadata.parquet`, in the form of a video folder.

It lists the clips of the dataset by their ids, without controls and rows that do not count. Rows
are sorted in buckets on the local disk, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.captioning.stored_captions import read_captions
from pipeline.dataset.parts import conform, read_parts
from pipeline.dataset.schema import SCHEMA
from pipeline.scoring.stored_scores import read_stored
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

INDEX_KEY = "metadata.parquet"

BUCKET_ROWS = 50_000
"""Rows that are sorted at once, about; a bucket is a row group of the index."""
MOST_BUCKETS = 256
"""Files that are open at once."""
BATCH_ROWS = 10_000
"""Rows of small parts that are brought into shape together."""

COLUMNS = (
    *("sample_id", "caption", "negative_prompt", "model", "model_revision", "seed"),
    *("seed_u64", "prompt_tokens", "prompt_truncated"),
    *("num_inference_steps", "guidance_scale", "guidance_scale_2", "width", "height"),
    *("num_frames", "fps"),
    *("media_bytes", "media_sha256", "source", "settings", "recaption", "recaptioner"),
    *("cache", "quality", "scores", "good", "tensors"),
)
"""Columns of the output rows that the index repeats."""

AS_TEXT = ("seed_u64",)
"""Columns whose numbers are decimal digits here.

`datasets` 5.2 builds each row of a folder's index from Python values, whose whole numbers it takes
for signed 64-bit ones: one seed of 2^63 or more would make the whole dataset unreadable.
"""

SCHEMA_OF_INDEX = pa.schema(
    [
        pa.field("file_name", pa.string()),
        *(pa.field(n, pa.string()) if n in AS_TEXT else SCHEMA.field(n) for n in COLUMNS),
    ]
)

Positions = npt.NDArray[np.int64]


def write_index(
    storage: Storage, files: Sequence[StoredFile], parts: Positions, at: Positions
) -> str:
    """Write the index of some rows, with the scores and captions that were given to them later.

    Args:
        storage: The output prefix.
        files: Its parts.
        parts: Index of the part of each row, rising.
        at: Position of the row in its part.

    Returns:
        The SHA-256 of the index.

    Raises:
        UserError: The condition that is stored with the scores is invalid.
        StorageError: The prefix cannot be read or written.
    """
    count = min(-(-len(parts) // BUCKET_ROWS), MOST_BUCKETS)
    with tempfile.TemporaryDirectory(prefix="index-") as name:
        folder = Path(name)
        _fill(folder, count, _rows(storage, files, parts, at))
        whole = folder / INDEX_KEY
        with pq.ParquetWriter(whole, SCHEMA_OF_INDEX, compression="zstd") as writer:
            for number in range(count):
                with pa.memory_map(str(folder / str(number))) as bucket:
                    rows = pa.ipc.open_stream(bucket).read_all()
                writer.write_table(rows.sort_by("sample_id"), row_group_size=2 * BUCKET_ROWS)
        storage.put_file(INDEX_KEY, whole)
        with whole.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def content_name(parts: Iterable[str]) -> str:
    """A text for a card's configuration that differs for what differs in these texts.

    `datasets` 5.2 names the cache of a local folder after the folder's own name and its card's
    configurations, and not after its files. Without such a text it gives old clips for a folder
    that has grown, and those of another folder of the same name.
    """
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"content {digest[:16]}"


def _fill(folder: Path, count: int, tables: Iterator[pa.Table]) -> None:
    """Write rows into files named 0, 1, …, by the order of their ids."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(folder / str(number), SCHEMA_OF_INDEX))
            for number in range(count)
        ]
        for table in tables:
            begins = [int(sample_id[:8], 16) for sample_id in table["sample_id"].to_pylist()]
            buckets = np.array(begins, np.uint64) * count >> np.uint64(32)
            for number in np.unique(buckets).tolist():
                rows = table.take(pa.array(np.flatnonzero(buckets == number)))
                writers[number].write_table(rows.combine_chunks())


def _rows(
    storage: Storage, files: Sequence[StoredFile], parts: Positions, at: Positions
) -> Iterator[pa.Table]:
    """Yield the rows in `SCHEMA_OF_INDEX`, some thousands at once."""
    ends = np.searchsorted(parts, np.arange(len(files) + 1))
    there = [number for number in range(len(files)) if ends[number] < ends[number + 1]]
    scores, captions = read_stored(storage), read_captions(storage)

    def shaped(tables: Sequence[pa.Table]) -> pa.Table:
        rows = captions.over(scores.over(pa.concat_tables(tables)))
        path = pc.struct_field(rows["video"], "path")
        columns = [path, *(_cells(rows, name) for name in COLUMNS)]
        return pa.Table.from_arrays(columns, schema=SCHEMA_OF_INDEX)

    def read(file: Any, _: StoredFile) -> pa.Table:
        parquet = pq.ParquetFile(file)
        names = [name for name in parquet.schema_arrow.names if name in _READ]
        # Of `video` only the path: a part may carry its media inline.
        return parquet.read(
            ["video.path" if name == "video" else name for name in names], use_threads=False
        )

    waiting: list[pa.Table] = []
    for number, table in zip(
        there, read_parts(storage, [files[n] for n in there], read), strict=True
    ):
        taken = table.take(pa.array(at[ends[number] : ends[number + 1]]))
        waiting.append(conform(taken.replace_schema_metadata(None)))
        if sum(each.num_rows for each in waiting) >= BATCH_ROWS:
            yield shaped(waiting)
            waiting = []
    if waiting:
        yield shaped(waiting)


def _cells(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of the index."""
    return rows[name].cast(pa.string()) if name in AS_TEXT else rows[name]


_READ = {*COLUMNS, "video", "status", "scorers", "scores_missing", "score_s", "perceptual_hash"}
"""Columns that are read: those of the index, and what stored scores are laid over."""
