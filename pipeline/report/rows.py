"""The rows of an output prefix as the report needs them: few flat columns, and each row's role.

Reads only the Parquet parts, local or remote, and only the columns that the report uses: a million
rows fit into a few hundred megabytes. Columns that an older version did not write are unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.committed import resolve
from pipeline.dataset.parts import foreign, part_files, read_parts
from pipeline.dataset.schema import SCHEMA
from pipeline.dataset.struct_columns import draft_seconds
from pipeline.errors import StorageError
from pipeline.report.input_columns import InputColumns
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

MESSAGE_CHARS = 300
"""Characters of a failed row's error message that are kept while the report is made."""

BATCH_ROWS = 50_000
"""Rows of small parts that are brought into shape together."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PLAIN = (
    *("sample_id", "control_of", "status", "error_type", "attempts", "run_id", "created_at"),
    *("wall_s", "gpu_s", "device_name", "group_size", "batch_rows", "encode_s", "upload_s"),
    *("num_inference_steps", "duration_s", "media_bytes", "model", "prompt_truncated"),
    *("width", "height", "num_frames", "fps", "guidance_scale_2", "negative_prompt"),
    *("settings", "guidance_scale", "source", "quantisation", "good", "score_s", "candidates"),
)
_NESTED = {
    "cache": (
        *("policy", "nfe", "reused", "decisions", "predicted_error", "actual_error"),
        "promised_error",
    ),
    "quality": ("psnr_db", "ssim", "lpips", "latent_error", "clip_wall_s"),
    "worker": ("id", "node", "labels", "load_s", "up_s"),
    "video": ("path",),
    "tensors": ("bytes", "path"),
    "times": ("text_s", "denoise_s", "decode_s", "wasted_s"),
}
_REPEATED = (
    *("status", "error_type", "run_id", "device_name", "model", "policy", "decisions", "settings"),
    *("worker_id", "node", "labels", "quantisation", "negative_prompt"),
)
_RENAMED = {"worker.id": "worker_id", "cache.predicted_error": "predicted"}
_RENAMED |= {"cache.actual_error": "actual", "tensors.bytes": "tensor_bytes"}
_RENAMED["tensors.path"] = "tensor_path"


@dataclass(frozen=True)
class Rows:
    """Rows of all parts, in the order of part names.

    Attributes:
        table: Flat columns; text that repeats is dictionary-encoded. `part` and `at` are the part
            of a row and its position there; `caption_chars` is the length of its caption; `kept`
            names the columns of its `source`, as a JSON list.
        files: The parts, indexed by `part`.
        counts: Which rows count: one per id, by the rule of `pipeline.dataset.committed`.
        inputs: Values of the input's columns, in the order of the rows.
        storage: The prefix, from which `whole` reads.
    """

    table: pa.Table
    files: tuple[StoredFile, ...]
    counts: Mask
    inputs: InputColumns
    storage: Storage

    def __len__(self) -> int:
        return self.table.num_rows

    def numbers(self, name: str) -> Floats:
        """Return a column as floats, NaN where unknown."""
        return self._column(name)

    def known(self, name: str) -> Floats:
        """Return a column as floats, 0 where unknown."""
        return np.nan_to_num(self._column(name))

    def codes(self, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Return a repeated text column as codes and the values of the codes; "" is unknown."""
        chunk = self.table[name].combine_chunks()
        if isinstance(chunk, pa.ChunkedArray):
            chunk = chunk.chunk(0) if chunk.num_chunks else pa.array([], pa.string())
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_encode()
        values = [value or "" for value in chunk.dictionary.to_pylist()]
        codes = chunk.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
        return codes.astype(np.int64), [*values, ""]

    def having(self, name: str, value: str) -> Mask:
        """Return the rows whose repeated text column has a value."""
        codes, values = self.codes(name)
        wanted = [code for code, text in enumerate(values) if text == value]
        return np.isin(codes, wanted)

    def whole(self, positions: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Read the whole output rows at a few positions from their parts."""
        found: dict[int, dict[str, Any]] = {}
        parts = self.table["part"].take(pa.array(positions, pa.int64())).to_pylist()
        at = self.table["at"].take(pa.array(positions, pa.int64())).to_pylist()
        wanted: dict[int, list[tuple[int, int]]] = {}
        for position, part, row in zip(positions, parts, at, strict=True):
            wanted.setdefault(part, []).append((position, row))
        for part, places in wanted.items():
            with self.storage.open(self.files[part].key) as opened:
                file = pq.ParquetFile(opened)
                there = file.schema_arrow.names
                # Of `video` only the path: a part may carry its media inline.
                table = file.read(
                    columns=[
                        "video.path" if name == "video" else name
                        for name in SCHEMA.names
                        if name in there
                    ]
                )
            for position, row in places:
                (found[position],) = table.slice(row, 1).to_pylist()
        return found

    @functools.cached_property
    def _cache(self) -> dict[str, Floats]:
        return {}

    def _column(self, name: str) -> Floats:
        if name not in self._cache:
            column = self.table[name]
            if pa.types.is_timestamp(column.type) or pa.types.is_boolean(column.type):
                column = column.cast(pa.int64())
            values = column.cast(pa.float64()).to_numpy()
            self._cache[name] = np.asarray(values, np.float64)
        return self._cache[name]


@dataclass(frozen=True)
class RowRoles:
    """The role of each row, as masks. All but `control` exclude each other.

    Attributes:
        clips: Clips of the dataset.
        controls: Controls with status ok.
        failed: Failed samples and failed controls that count.
        rejected: Rejected input rows that count.
        superseded: Rows that do not count.
        control: Controls of any status that count.
    """

    clips: Mask
    controls: Mask
    failed: Mask
    rejected: Mask
    superseded: Mask
    control: Mask

    @classmethod
    def of(cls, rows: Rows) -> RowRoles:
        """Determine the role of each row."""
        ok = rows.having("status", "ok") & rows.counts
        control = pc.not_equal(rows.table["control_of"], "").fill_null(False).to_numpy()
        return cls(
            clips=ok & ~control,
            controls=ok & control,
            failed=rows.having("status", "failed") & rows.counts,
            rejected=rows.having("status", "rejected") & rows.counts,
            superseded=~rows.counts,
            control=control & rows.counts,
        )


def kinds(*columns: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the distinct combinations of several columns of whole numbers >= 0.

    Args:
        columns: Columns of equal length.

    Returns:
        The combinations in order, shape [kinds, columns], and the index of each row's combination,
        shape [rows].
    """
    sizes = [int(column.max(initial=0)) + 1 for column in columns]
    packed = np.ravel_multi_index([column.astype(np.int64) for column in columns], sizes)
    found, which = np.unique(packed, return_inverse=True)
    return np.stack(np.unravel_index(found, sizes), axis=1), which


def read_rows(storage: Storage) -> Rows:
    """Read every part of an output prefix.

    Raises:
        StorageError: The prefix cannot be read, or a part is damaged or not ours.
    """
    entries = part_files(storage)
    inputs = InputColumns()
    tables = [inputs.take(table) for table in _tables(storage, entries)]
    empty = [] if tables else [_flat_parts(storage, [], [SCHEMA.empty_table()], 0)]
    table = pa.concat_tables(tables or empty).unify_dictionaries().combine_chunks()
    try:
        order = table.select(["sample_id"]).append_column("status", table["status"].cast("string"))
        order = order.append_column("place", pa.array(np.arange(table.num_rows)))
        winners = resolve(order)["place"].to_numpy() if table.num_rows else np.empty(0, np.int64)
    except ValueError as error:
        raise StorageError(f"{storage.uri}/data: {error}") from error
    counts = np.zeros(table.num_rows, np.bool_)
    counts[winners] = True
    return Rows(table, tuple(entries), counts, inputs, storage)


def _tables(storage: Storage, entries: Sequence[StoredFile]) -> Iterator[pa.Table]:
    """Yield the flat rows of several parts at a time: a table per part costs more than its rows."""

    def read(file: Any, entry: StoredFile) -> pa.Table:
        try:
            return _columns(file)
        except (pa.ArrowException, KeyError) as error:
            raise foreign(f"{storage.uri}/{entry.key}", error) from error

    some: list[pa.Table] = []
    first = rows = 0
    for number, table in enumerate(read_parts(storage, entries, read)):
        if some and (rows >= BATCH_ROWS or not table.schema.equals(some[0].schema)):
            yield _flat_parts(storage, entries, some, first)
            some, first, rows = [], number, 0
        some.append(table)
        rows += table.num_rows
    if some:
        yield _flat_parts(storage, entries, some, first)


def _flat_parts(
    storage: Storage, entries: Sequence[StoredFile], tables: Sequence[pa.Table], first: int
) -> pa.Table:
    sizes = [table.num_rows for table in tables]
    try:
        flat = _flat(pa.concat_tables(tables))
    except (pa.ArrowException, KeyError) as error:
        raise foreign(f"{storage.uri}/{entries[first].key}", error) from error
    parts = np.repeat(np.arange(first, first + len(sizes), dtype=np.int32), sizes)
    at = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    return flat.append_column("part", pa.array(parts)).append_column("at", pa.array(at))


def _columns(file: Any) -> pa.Table:
    """Read the columns that the report needs and the part has."""
    parquet = pq.ParquetFile(file)
    there = set(parquet.schema_arrow.names)
    wanted = [name for name in _PLAIN if name in there]
    wanted += [
        f"{parent}.{child}"
        for parent, children in _NESTED.items()
        if parent in there
        for child in children
    ]
    wanted += [name for name in ("caption", "error_message", "drafts") if name in there]
    return parquet.read(columns=wanted, use_threads=False).replace_schema_metadata(None)


def _flat(table: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in _PLAIN:
        kind = SCHEMA.field(name).type
        columns[name] = table[name] if name in table.column_names else _nulls(table, kind)
    for parent, children in _NESTED.items():
        struct = SCHEMA.field(parent).type
        there = table.schema.field(parent).type if parent in table.column_names else None
        for child in children:
            known = there is not None and there.get_field_index(child) >= 0
            columns[_RENAMED.get(f"{parent}.{child}", child)] = (
                pc.struct_field(table[parent], child)
                if known
                else _nulls(table, struct.field(child).type)
            )
    columns["draft_gpu_s"] = pa.array(draft_seconds(table))
    columns["caption_chars"] = pc.utf8_length(table["caption"])
    columns["error_message"] = pc.utf8_slice_codeunits(table["error_message"], 0, MESSAGE_CHARS)
    for name in _REPEATED:
        columns[name] = columns[name].cast(pa.string()).dictionary_encode()
    return pa.table(columns)


def _nulls(table: pa.Table, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(table.num_rows, kind)])
