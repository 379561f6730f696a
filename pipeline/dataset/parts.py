"""The Parquet parts `data/part-*.parquet` that hold the output rows: writing and finding them.

Rows are small (media is stored before its row exists), so one writer in the driver is enough and
keeps the parts few: it writes a part after `part_rows` rows or `part_seconds` seconds, whichever
comes first. A crash of the driver loses this buffer at most; the media of its rows are stored.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.schema import SCHEMA
from pipeline.errors import StorageError
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage
from pipeline.wording import are, counted

READ_THREADS = 16
MOST_OF_ERROR = 200
"""Characters of the error of a library that a message holds."""
WHOLE_FILE_BYTES = 8 << 20
"""Parts up to this size are read in one request; larger ones by column ranges."""

AHEAD_BYTES = 8 << 20
"""Size of the parts that are read ahead; in memory they are some ten times as large."""

T = TypeVar("T")
MOST_NAMED = 3
"""Missing parts that a message names."""

_PART = re.compile(r"data/part-[^/]+\.parquet")
_NUMBERED = re.compile(r"data/part-([^/]+)-(\d{5,6})\.parquet")


class PartWriter:
    """Appends rows to an output prefix; a part is visible whole or not at all.

    Attributes:
        written: Parts so far.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        *,
        part_rows: int,
        part_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open an output prefix; this writes nothing yet.

        Args:
            storage: The output prefix.
            run_id: Makes part names unique among the runs of a prefix.
            part_rows: Rows after which a part is written.
            part_seconds: Seconds after which the next row that arrives causes a part to be written.
            clock: Monotonic seconds.
        """
        self._storage = storage
        self._run_id = run_id
        self._part_rows = part_rows
        self._part_seconds = part_seconds
        self._clock = clock
        self._tables: list[pa.Table] = []
        self._rows = 0
        self.written = 0
        self._since = clock()

    def add(self, table: pa.Table) -> None:
        """Buffer rows in `SCHEMA`, and write a part if one is due.

        Raises:
            StorageError: A part was due and could not be written. Its rows stay in the buffer.
        """
        if not table.num_rows:
            return
        self._tables.append(table if table.schema.equals(SCHEMA) else table.cast(SCHEMA))
        self._rows += table.num_rows
        if self._rows >= self._part_rows or self._clock() - self._since >= self._part_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the buffer as one part, if it holds rows.

        Raises:
            StorageError: The part could not be written. Its rows stay in the buffer.
        """
        if self._rows:
            buffer = pa.BufferOutputStream()
            table = pa.concat_tables(self._tables).replace_schema_metadata(SCHEMA.metadata)
            pq.write_table(table, buffer, compression="zstd")
            key = _key(self._run_id, self.written)
            self._storage.put_bytes(key, buffer.getvalue().to_pybytes())
            self._tables, self._rows = [], 0
            self.written += 1
        self._since = self._clock()


def part_files(storage: Storage) -> list[StoredFile]:
    """The parts of an output prefix, sorted by name.

    Raises:
        StorageError: The prefix cannot be listed.
    """
    return [file for file in storage.list("data/part-") if _PART.fullmatch(file.key)]


PartName = int | str
"""The number of a part of its run; the name behind the run's id for a part of a Dataset."""


def named_parts(files: Sequence[StoredFile], run_id: str) -> list[str]:
    """The names, behind its id, of the parts that a Dataset's run has stored."""
    ours = re.compile(rf"data/part-{re.escape(run_id)}-([0-9a-f]{{12}}-\d{{5}})\.parquet")
    return sorted(found[1] for file in files if (found := ours.fullmatch(file.key)))


def missing_parts(
    files: Sequence[StoredFile], runs: Sequence[RunStatus]
) -> dict[str, list[PartName]]:
    """Find out which parts are gone that runs had written, by names alone.

    A run numbers its parts from 0 and records at its end how many it wrote. So a number that is
    missing shows a part that is gone; where an older version did not record them, the last parts
    can be gone without a sign. A Dataset records the names of its parts at its end.

    Args:
        files: The parts that are there, listed after the runs were read.
        runs: All runs into the prefix.

    Returns:
        Numbers or names of the missing parts by run id, without those for whose clips a later run
        that ended well has searched, and without runs that may write now.
    """
    numbers: dict[str, set[int]] = {}
    for file in files:
        if name := _NUMBERED.fullmatch(file.key):
            numbers.setdefault(name[1], set()).add(int(name[2]))
    known = {run.run_id: run for run in runs}
    keys = {file.key for file in files}
    searched: dict[str, set[PartName]] = {}
    for run in runs:
        for run_id, search in run.searched.items() if run.state == "done" else ():
            searched.setdefault(run_id, set()).update(search.get("lost", ()))
    found: dict[str, list[PartName]] = {}
    for run_id in sorted({*numbers, *known}):
        there, by = numbers.get(run_id, set()), known.get(run_id)
        if by is not None and not by.is_over(runs):
            continue
        written = max(max(there, default=-1) + 1, (by.parts if by else None) or 0)
        gone: set[PartName] = {*range(written)} - there
        named = by.named_parts if by is not None else ()
        gone |= {name for name in named if _key(run_id, name) not in keys}
        if gone := gone - searched.get(run_id, set()):
            found[run_id] = sorted(gone, key=_as_text)
    return found


def count_missing(missing: Mapping[str, Sequence[PartName]]) -> str:
    """Say which parts `missing_parts` found; at least one."""
    keys = [_key(run_id, number) for run_id, numbers in missing.items() for number in numbers]
    names = ", ".join(keys[:MOST_NAMED]) + (", …" if len(keys) > MOST_NAMED else "")
    return f"{counted(len(keys), 'part')} of the rows {are(len(keys))} missing ({names})"


def tell_missing(missing: Mapping[str, Sequence[PartName]]) -> str:
    """Say which parts of which runs are gone, and how their clips get their rows again.

    Args:
        missing: What `missing_parts` found; not empty.
    """
    return (
        f"{count_missing(missing)}: the command or program that made them takes the clips over "
        "from their mp4s when it is run again, without making them again"
    )


def _key(run_id: str, name: PartName) -> str:
    return f"data/part-{run_id}-{_as_text(name)}.parquet"


def _as_text(name: PartName) -> str:
    return f"{name:05d}" if isinstance(name, int) else name


def read_parts(
    storage: Storage, files: Sequence[StoredFile], read: Callable[[Any, StoredFile], T]
) -> Iterator[T]:
    """Read parts in parallel, each once, and yield what was read in the given order.

    Args:
        storage: The output prefix.
        files: The parts.
        read: Reads one part from an open binary file; its errors pass through.

    Yields:
        A result per part. Few results wait, so memory does not grow with the number of parts.
    """

    def one(file: StoredFile) -> T:
        small = file.size <= WHOLE_FILE_BYTES
        with BytesIO(storage.read_bytes(file.key)) if small else storage.open(file.key) as opened:
            return read(opened, file)

    with ThreadPoolExecutor(READ_THREADS) as pool:
        under_way: deque[tuple[Future[T], int]] = deque()
        ahead = 0
        try:
            for file in files:
                under_way.append((pool.submit(one, file), file.size))
                ahead += file.size
                while len(under_way) >= 2 * READ_THREADS or (under_way and ahead > AHEAD_BYTES):
                    future, size = under_way.popleft()
                    ahead -= size
                    yield future.result()
            while under_way:
                yield under_way.popleft()[0].result()
        finally:
            for future, _ in under_way:
                future.cancel()


def conform(table: pa.Table) -> pa.Table:
    """Bring rows of an older version to `SCHEMA`; missing columns and struct fields become null.

    Raises:
        ValueError: A column holds values that its type here cannot hold (pyarrow's ArrowInvalid).
    """
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def write_beside(
    storage: Storage, prefix: str, key: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Store a part of a table that stands beside the rows; it is visible whole or not at all.

    Args:
        storage: The output prefix.
        prefix: Of the keys of the table's parts, as `scores/part-`.
        key: Name of the part behind the prefix, unique in the table.
        rows: Values of `schema`.
        schema: Columns of the table.
    """
    buffer = pa.BufferOutputStream()
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    pq.write_table(table, buffer, compression="zstd")
    storage.put_bytes(f"{prefix}{key}.parquet", buffer.getvalue().to_pybytes())


def read_beside(storage: Storage, prefix: str, schema: pa.Schema) -> pa.Table:
    """Read a table that stands beside the rows; without rows if it has no part.

    Raises:
        StorageError: A part cannot be read, or is not ours.
    """

    def read(opened: Any, file: StoredFile) -> pa.Table:
        try:
            part = pq.ParquetFile(opened).read(use_threads=False)
            return part.select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError) as error:
            raise foreign(f"{storage.uri}/{file.key}", error) from error

    files = [file for file in storage.list(prefix) if file.key.endswith(".parquet")]
    tables = list(read_parts(storage, files, read))
    return pa.concat_tables(tables) if tables else schema.empty_table()


def foreign(place: str, error: Exception) -> StorageError:
    """The error of a Parquet file of a prefix that is torn, or was written by something else.

    Args:
        place: Its URI.
        error: What reading it raised.
    """
    text = " ".join(str(error).split())[:MOST_OF_ERROR]
    of_rows = re.search(r"/data(/[^/]+$|:)", place)
    again = "the next run takes its clips over from their mp4s" if of_rows else "it is made again"
    return StorageError(
        f"{place} is damaged or not written by this pipeline: {text}; move it away ({again}) or "
        "choose another output"
    )
