"""Which samples of an output prefix are finished, and which row of an id counts.

The rule, stated once: of several rows with one id, a row with status `ok` beats all others, and
among equals the first wins, in the order of part names and then of rows. An id has several rows
after `--retry-failed` has made a sample that had failed, or when two runs write into one prefix.

Reads four columns of the parts and nothing else; never writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.parts import foreign, part_files, read_parts
from pipeline.requests.run_settings import CONTROL
from pipeline.requests.sample_request import ID_BYTES
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import saves

STATUSES = ("ok", "failed", "rejected")
CLIP_DAMAGED = "ClipDamaged"
"""Error type of a failed row whose clip was made and then lost; its sample is pending again."""
_FAILED_CODE, _LOST = STATUSES.index("failed"), len(STATUSES)
PENDING, DONE, FAILED = 0, 1, 2
"""The values of `Committed.states`."""

_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """Many sample ids of 10 bytes each, as two columns that numpy sorts and searches fast.

    `np.dtype("S10")` would drop NUL bytes at the end of an id.
    """

    high: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    low: npt.NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))

    @classmethod
    def from_bytes(cls, packed: bytes) -> Ids:
        """Read concatenated ids of `ID_BYTES` each."""
        pairs = np.frombuffer(packed, np.dtype([("high", ">u8"), ("low", ">u2")]))
        return cls(pairs["high"].astype(np.uint64), pairs["low"].astype(np.uint16))

    @classmethod
    def of(cls, ids: Iterable[bytes]) -> Ids:
        """Take binary ids of `ID_BYTES` each."""
        return cls.from_bytes(b"".join(ids))

    @classmethod
    def from_hex(cls, column: pa.ChunkedArray) -> Ids:
        """Read the `sample_id` column of output rows.

        Raises:
            ValueError: A cell is not an id (pyarrow's ArrowInvalid is a ValueError).
        """
        width = 2 * ID_BYTES
        digits = [np.empty(0, np.uint8)]
        for fixed in column.cast(pa.binary()).cast(pa.binary(width)).chunks:
            if fixed.null_count:
                raise ValueError(f"sample_id is not {width} hex digits in every row")
            if len(fixed):  # as one stretch of bytes, without a Python object per row
                start, end = fixed.offset * width, (fixed.offset + len(fixed)) * width
                digits.append(_NIBBLES[np.frombuffer(fixed.buffers()[1], np.uint8)[start:end]])
        found = np.concatenate(digits)
        if found.max(initial=0) > 15:
            raise ValueError(f"sample_id is not {width} hex digits in every row")
        return cls.from_bytes((found[0::2] << 4 | found[1::2]).tobytes())

    def __len__(self) -> int:
        return len(self.high)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Ids:
        """Select ids by positions or by a mask."""
        return Ids(self.high[rows], self.low[rows])

    def sorted(self) -> Ids:
        """The same ids in the order that `find` needs."""
        return self.take(self.order())

    def order(self, *then: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Positions that sort the ids; equal ids stay as they are.

        Args:
            then: By what equal ids are sorted, the most important last; as `np.lexsort` takes it.
        """
        order = np.argsort(self.high)
        high = self.high[order]
        same = high[1:] == high[:-1]
        if same.any():  # sorted on their own, because a stable sort of all takes much longer
            shared = np.flatnonzero(np.append(same, False) | np.append(False, same))
            some = np.sort(order[shared])
            order[shared] = some[np.lexsort([each[some] for each in (*then, self.low, self.high)])]
        return order

    def first(self) -> npt.NDArray[np.bool_]:
        """Whether each id is the first of those that are equal to it."""
        order = self.order()
        found = np.empty(len(self), np.bool_)
        found[order] = self.take(order).begins()
        return found

    def begins(self) -> npt.NDArray[np.bool_]:
        """Whether each id differs from the one before it."""
        found = np.ones(len(self), np.bool_)
        found[1:] = (self.high[1:] != self.high[:-1]) | (self.low[1:] != self.low[:-1])
        return found

    def find(self, wanted: Ids) -> npt.NDArray[np.bool_]:
        """Whether each wanted id is among these ids, which must be sorted."""
        return self.positions(wanted) >= 0

    def positions(self, wanted: Ids) -> npt.NDArray[np.intp]:
        """The place of each wanted id among these ids, which must be sorted; -1 if it is none."""
        found = np.full(len(wanted), -1, np.intp)
        rows = np.argsort(wanted.high)  # a search in order takes half the time
        at = np.searchsorted(self.high, wanted.high[rows])
        while len(rows):  # runs once unless ids share their first 8 bytes
            same = at < len(self)
            same[same] = self.high[at[same]] == wanted.high[rows[same]]
            rows, at = rows[same], at[same]
            equal = self.low[at] == wanted.low[rows]
            found[rows[equal]] = at[equal]
            at = at + 1
        return found


@dataclass(frozen=True, slots=True)
class Committed:
    """The finished samples of an output prefix.

    Attributes:
        ids: Sorted and unique, without the failed samples if these are to be made again.
        failed: Sorted ids of the samples among `ids` that ended as failed rows.
        settings: Number of the dataset's ok clips by the `settings` of their rows; "" where an
            older version did not record them.
        unsaved: Number of these clips without the tensors that are wanted.
    """

    ids: Ids = field(default_factory=Ids)
    failed: Ids = field(default_factory=Ids)
    settings: Mapping[str, int] = field(default_factory=dict)
    unsaved: int = 0

    def __contains__(self, sample_id: bytes) -> bool:
        """Whether the sample of a binary id is finished."""
        return bool(self.contains(Ids.from_bytes(sample_id))[0])

    def contains(self, sample_ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether each of many samples is finished."""
        return self.ids.find(sample_ids)

    def states(self, sample_ids: Ids) -> npt.NDArray[np.uint8]:
        """The state of each of many samples: `PENDING`, `DONE` (ok or rejected) or `FAILED`."""
        return self.ids.find(sample_ids).astype(np.uint8) + self.failed.find(sample_ids)

    def without(self, ids: Ids) -> Committed:
        """A copy in which some samples are not finished; their ids must be sorted."""
        if not len(ids):
            return self
        return Committed(
            self.ids.take(~ids.find(self.ids)),
            self.failed.take(~ids.find(self.failed)),
            self.settings,
            self.unsaved,
        )

    def including(self, ok: Ids) -> Committed:
        """A copy with further samples that are finished as ok rows."""
        if not len(ok):
            return self
        ids = Ids(np.append(self.ids.high, ok.high), np.append(self.ids.low, ok.low))
        return Committed(ids.sorted(), self.failed, self.settings, self.unsaved)


def committed(
    storage: Storage, *, retry_failed: bool = False, save: Sequence[str] = ()
) -> Committed:
    """Read which samples of an output prefix are finished.

    Args:
        storage: The output prefix; it need not exist yet.
        retry_failed: Leave out the failed samples, so that they are made again.
        save: What clips should have beside them; those without are counted.

    Raises:
        StorageError: The prefix cannot be read, or a part is damaged or foreign; skipping the part
            would make its samples twice.
    """
    files = part_files(storage)
    if not files:
        return Committed()
    found = read_parts(storage, files, lambda file, part: _read_part(storage, file, part, save))
    parts = list(found)
    read = [part_ids for part_ids, *_ in parts]
    ids = Ids(*(np.concatenate(c) for c in zip(*((p.high, p.low) for p in read), strict=True)))
    status = np.concatenate([codes for _, codes, *_ in parts])
    settings, names = _numbered([texts for *_, texts, _ in parts])
    kept = _winners(ids, status)
    kept = kept[status[kept] != _LOST]
    clips = kept[status[kept] == STATUSES.index("ok")]
    ok = settings[clips]
    counts = dict(zip(names, np.bincount(ok, minlength=len(names)).tolist(), strict=True))
    of_clips = {n: count for n, count in counts.items() if count and not n.startswith(CONTROL)}
    unsaved = 0
    if save:
        lacks = np.concatenate([lacking for *_, lacking in parts])[clips]
        control = np.array([name.startswith(CONTROL) for name in names], np.bool_)[ok]
        unsaved = int((lacks & ~control).sum())
    ids, status = ids.take(kept), status[kept]
    failed = status == STATUSES.index("failed")
    if retry_failed:
        return Committed(ids.take(~failed), settings=of_clips, unsaved=unsaved)
    return Committed(ids, ids.take(failed), of_clips, unsaved)


def resolve(table: pa.Table) -> pa.Table:
    """Keep the row of each id that counts, by the rule of this module, in the given order.

    Args:
        table: Rows of all parts, in the order of the part names, with the columns `sample_id` and
            `status` at least.

    Raises:
        ValueError: A cell is no sample id or no known status.
    """
    kept = _winners(Ids.from_hex(table["sample_id"]), _codes(table["status"]))
    return table.take(pa.array(np.sort(kept)))


def _codes(status: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    found = pc.index_in(status, pa.array(STATUSES))
    if found.null_count:
        raise ValueError(f"status is not one of {', '.join(STATUSES)} in every row")
    return np.asarray(found.to_numpy(), np.uint8)


def _winners(ids: Ids, status: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Positions of the rows that count, in the order of their ids."""
    order = ids.order(status != STATUSES.index("ok"))
    return order[ids.take(order).begins()]


def _numbered(texts: Sequence[Any]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """One column of numbers for the repeated texts of all parts, and the texts."""
    names: dict[str, int] = {}
    found = []
    for column in texts:
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            own = [names.setdefault(name, len(names)) for name in chunk.dictionary.to_pylist()]
            found.append(np.array(own, np.int64)[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(found), list(names)


def _read_part(
    storage: Storage, file: Any, part: StoredFile, save: Sequence[str]
) -> tuple[Ids, npt.NDArray[np.uint8], Any, npt.NDArray[np.bool_]]:
    try:
        columns = ["sample_id", "status", "error_type", "settings"]
        # `pq.read_table` takes four times as long for a small part.
        table = pq.ParquetFile(file).read(
            [*columns, *(["tensors.saved"] if save else [])], use_threads=False
        )
        codes = _codes(table["status"])
        if "error_type" in table.column_names:
            lost = pc.equal(table["error_type"], CLIP_DAMAGED).fill_null(False)
            codes = np.where(lost.to_numpy() & (codes == _FAILED_CODE), _LOST, codes)
        known = "settings" in table.column_names
        settings = table["settings"] if known else pa.array([""] * table.num_rows)
        settings = settings.fill_null("").dictionary_encode()
        lacks = _lacking(table, save)
        return Ids.from_hex(table["sample_id"]), codes.astype(np.uint8), settings, lacks
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise foreign(f"{storage.uri}/{part.key}", error) from error


def _lacking(table: pa.Table, save: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows do not have all of what is wanted beside their clips."""
    if not save or "tensors" not in table.column_names:
        return np.full(table.num_rows, bool(save))
    saved = pc.struct_field(table["tensors"].combine_chunks(), "saved").fill_null("")
    saved = saved.dictionary_encode()
    lacks = np.array([not saves(text, save) for text in saved.dictionary.to_pylist()], np.bool_)
    return lacks[saved.indices.to_numpy(zero_copy_only=False)]
