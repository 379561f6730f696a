"""Selects the clips of an export, with their order, split and shard, from rows and flags alone.

Reads the Parquet parts and never media. Of several rows with one id the one that counts is used.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.committed import resolve
from pipeline.dataset.parts import conform, part_files
from pipeline.dataset.schema import SCHEMA
from pipeline.errors import StorageError, UserError
from pipeline.requests.sample_request import digest
from pipeline.storage.storage import Storage


@dataclass(frozen=True, slots=True)
class Shard:
    """Clips that are written together.

    Attributes:
        split: Name of the split.
        number: Number of the shard within the split, from 0.
        of: Number of shards of the split.
        rows: Output rows in the order of their ids.
    """

    split: str
    number: int
    of: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The content of an export.

    Attributes:
        shards: The shards in order.
        fingerprint: Digest of ids, hashes, splits and shards; equal for equal selections.
    """

    shards: tuple[Shard, ...]
    fingerprint: str

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(len(shard.rows) for shard in self.shards)


def parse_splits(text: str) -> dict[str, float]:
    """Read `train=0.9,val=0.1`; shares are scaled to add up to 1.

    Raises:
        UserError: The text has another form.
    """
    splits: dict[str, float] = {}
    for item in text.split(","):
        name, _, share = item.partition("=")
        try:
            weight = float(share) if share else 1.0
        except ValueError:
            weight = -1.0
        if not name.isidentifier() or name in splits or not 0 < weight < 1e9:
            raise UserError(f"--splits {text}: should be like train=0.9,val=0.1")
        splits[name] = weight
    total = sum(splits.values())
    return {name: weight / total for name, weight in splits.items()}


def split_of(sample_id: str, splits: Mapping[str, float]) -> str:
    """Return the split of a clip. It depends on the id alone, so it stays as a dataset grows."""
    drawn = int.from_bytes(digest(["split", sample_id])[:8], "big") / 2**64
    for name, share in splits.items():
        drawn -= share
        if drawn < 0:
            return name
    return list(splits)[-1]


def select(
    storage: Storage,
    *,
    where: str = "",
    splits: Mapping[str, float],
    shard_rows: int,
    controls: bool = False,
) -> Selection:
    """Select clips and divide them into splits and shards.

    Args:
        storage: The output prefix.
        where: An SQL condition (DuckDB) over the columns of output rows; "" selects all.
        splits: Share of the clips by name of the split.
        shard_rows: Largest number of clips per shard.
        controls: Include controls.

    Raises:
        UserError: The condition is invalid, or no clip is left.
        StorageError: The prefix cannot be read.
    """
    chosen = _filter(_rows(storage), where, controls)
    if not chosen:
        raise UserError(f"{storage.uri}: no clip is ok" + (f" and {where}" if where else ""))
    by_split: dict[str, list[Mapping[str, Any]]] = {name: [] for name in splits}
    for row in chosen:
        by_split[split_of(row["sample_id"], splits)].append(row)
    shards = tuple(
        Shard(name, number, -(-len(rows) // shard_rows), batch)
        for name, rows in by_split.items()
        for number, batch in enumerate(_batches(rows, shard_rows))
    )
    fingerprint = hashlib.sha256()
    for shard in shards:
        fingerprint.update(f"{shard.split}/{shard.number}/{shard.of}\n".encode())
        for row in shard.rows:
            fingerprint.update(f"{row['sample_id']} {row['media_sha256']}\n".encode())
    return Selection(shards, fingerprint.hexdigest())


def _rows(storage: Storage) -> pa.Table:
    entries = part_files(storage)
    if not entries:
        raise UserError(f"{storage.uri}: holds no data/part-*.parquet; run a job first")
    tables = []
    for entry in entries:
        try:
            tables.append(conform(pq.read_table(BytesIO(storage.read_bytes(entry.key)))))
        except pa.ArrowException as error:
            text = str(error).splitlines()[0]
            raise StorageError(f"{storage.uri}/{entry.key} is no part of ours: {text}") from error
    return resolve(pa.concat_tables(tables))


def _filter(rows: pa.Table, where: str, controls: bool) -> list[Mapping[str, Any]]:
    usual = "status = 'ok'" + ("" if controls else " and control_of = ''")
    source = "case when json_valid(source) then source::json end"  # so that source->>'name' works
    clips = f"select * replace ({source} as source) from clips where {usual}"  # noqa: S608
    with duckdb.connect() as database:
        database.execute("set threads = 2")
        database.register("clips", rows)
        # From here on the condition cannot read or write files.
        database.execute("set enable_external_access = false; set lock_configuration = true")
        try:
            query: Any = database.sql(
                f"select * replace (coalesce(source::varchar, '') as source) from ({clips}) "  # noqa: S608
                f"where ({where or 'true'})"
            )
            found: pa.Table = query.to_arrow_table()
        except duckdb.Error as error:
            text = str(error).split("\n")[0]
            raise UserError(f"--where {where}: {text}") from None
    return sorted(found.cast(SCHEMA).to_pylist(), key=lambda row: str(row["sample_id"]))


def _batches(
    rows: Sequence[Mapping[str, Any]], size: int
) -> Iterator[tuple[Mapping[str, Any], ...]]:
    for start in range(0, len(rows), size):
        yield tuple(itertools.islice(rows, start, start + size))
