"""Captions that were written for the clips of a prefix after they were made.

`captions/part-*.parquet` holds what `jobs/caption.py` wrote. Output rows are never rewritten:
readers fill the columns `recaption` and `recaptioner` of the rows from here, and `caption` stays
the prompt. A caption belongs to the very clip that was looked at: the hash of its mp4 is part of
it. If several captioners described a clip, its newest caption counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.parts import read_beside, write_beside
from pipeline.storage.storage import Storage

PARTS = "captions/part-"

CAPTION_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("media_sha256", pa.string()),
        ("captioner", pa.string()),
        ("recaption", pa.string()),
        ("error", pa.string()),
        ("caption_s", pa.float64()),
        ("captioned_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of `captions/part-*.parquet`. `captioner` is `name@version`; `error` says why there is no
caption, "" if there is one; `caption_s` is seconds of reading and describing the clip."""

_NEWEST = """
select sample_id, media_sha256, last(recaption order by captioned_at, captioner) as recaption,
    last(captioner order by captioned_at, captioner) as captioner
from parts where error = '' group by all
"""
_OVERLAY = """
select rows.* replace (
    coalesce(newest.recaption, rows.recaption, '') as recaption,
    coalesce(newest.captioner, rows.recaptioner, '') as recaptioner
)
from rows
left join newest on rows.sample_id = newest.sample_id and rows.media_sha256 = newest.media_sha256
order by rows.place
"""


class StoredCaptions:
    """The captions that are stored beside the rows of a prefix, read once."""

    def __init__(self, parts: pa.Table) -> None:
        """Take rows of `CAPTION_SCHEMA`."""
        self.parts = parts
        self._database = duckdb.connect(config={"threads": 2})
        self._database.register("parts", parts)
        self._database.execute(f"create table newest as {_NEWEST}")
        self._database.unregister("parts")

    def over(self, rows: pa.Table) -> pa.Table:
        """Fill `recaption` and `recaptioner`; "" for clips without a caption.

        Args:
            rows: Have these columns, `sample_id` and `media_sha256`, and any others.
        """
        if not self.parts.num_rows:
            return rows
        placed = rows.append_column("place", pa.array(range(rows.num_rows), pa.int64()))
        self._database.register("rows", placed)
        found: pa.Table = self._database.sql(_OVERLAY).to_arrow_table()
        self._database.unregister("rows")
        return found.drop_columns(["place"]).cast(rows.schema)

    def described(self, rows: pa.Table, captioner: str) -> Any:
        """Which rows have a caption by a captioner (`name@version`); an Arrow array of booleans."""
        by_it = pc.and_(
            pc.equal(self.parts["captioner"], captioner), pc.equal(self.parts["error"], "")
        )
        return pc.is_in(_clips(rows), value_set=_clips(self.parts.filter(by_it)))


def _clips(table: pa.Table) -> Any:
    """Id and hash of each clip in one text."""
    return pc.binary_join_element_wise(table["sample_id"], table["media_sha256"], " ")


def read_captions(storage: Storage) -> StoredCaptions:
    """Read the captions that are stored in a prefix.

    Raises:
        StorageError: A file cannot be read, or is not ours.
    """
    return StoredCaptions(read_beside(storage, PARTS, CAPTION_SCHEMA))


def write_captions(storage: Storage, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store a part of captions; it is visible whole or not at all.

    Args:
        storage: The output prefix.
        key: Name of the part behind `captions/part-`, unique in the prefix.
        rows: Values of `CAPTION_SCHEMA`.
    """
    write_beside(storage, PARTS, key, rows, CAPTION_SCHEMA)
