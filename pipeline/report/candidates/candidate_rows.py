"""Which rows are tries at one sample, and which drafts a clip was chosen by.

Tries at a sample differ in their seeds alone. So a row is known here by its seed and by a hash of
everything else that an input row or a run can set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.parts import conform, read_parts
from pipeline.report.rows import Rows
from pipeline.storage.keys import StoredFile

_CONTENT = (
    *("caption", "negative_prompt", "settings", "num_inference_steps", "guidance_scale"),
    *("guidance_scale_2", "width", "height", "num_frames", "fps", "conditions"),
)
_COLUMNS = (*_CONTENT, "seed", "seed_u64", "candidate", "drafts")

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CandidateRows:
    """What tells the candidates of a prefix apart, one entry per row of the report.

    Attributes:
        content: Hashes of what a row was made from, its seed left out.
        seeds: Seeds.
        numbers: Which try at its sample a row is, from 1.
        drafts: The drafts of each row that has any, by its position.
    """

    content: Hashes
    seeds: Hashes
    numbers: npt.NDArray[np.int64]
    drafts: Mapping[int, Sequence[Mapping[str, Any]]]

    def key(self, place: int) -> tuple[int, int]:
        """What a row was made from, its seed included."""
        return int(self.content[place]), int(self.seeds[place])


def read_candidates(rows: Rows) -> CandidateRows | None:
    """Read the candidates of a prefix; None where every sample had one try.

    Raises:
        StorageError: A part cannot be read.
    """
    if not (rows.known("candidates") > 1).any():
        return None
    content, seeds, numbers = [], [], []
    drafts: dict[int, Sequence[Mapping[str, Any]]] = {}
    first = 0
    with duckdb.connect(config={"threads": 1}) as database:
        for table in read_parts(rows.storage, rows.files, _read):
            content.append(_content(database, table))
            seed = pc.coalesce(table["seed_u64"], pc.abs(table["seed"]).cast(pa.uint64()))
            seeds.append(seed.fill_null(0).to_numpy())
            numbers.append(np.maximum(table["candidate"].fill_null(1).to_numpy(), 1))
            has = pc.greater(pc.list_value_length(table["drafts"]), 0).fill_null(False)
            places = np.flatnonzero(has.to_numpy())
            own = table["drafts"].filter(has).to_pylist()
            drafts.update(zip((places + first).tolist(), own, strict=True))
            first += table.num_rows
    return CandidateRows(
        np.concatenate(content),
        np.concatenate(seeds).astype(np.uint64),
        np.concatenate(numbers).astype(np.int64),
        drafts,
    )


def _read(opened: Any, _: StoredFile) -> pa.Table:
    part = pq.ParquetFile(opened)
    there = set(part.schema_arrow.names)
    table = part.read(columns=[name for name in _COLUMNS if name in there], use_threads=False)
    return conform(table.replace_schema_metadata(None))


def _content(database: duckdb.DuckDBPyConnection, rows: pa.Table) -> Hashes:
    database.register("rows", rows.select(_CONTENT))
    found = database.sql(f"select hash({', '.join(_CONTENT)}) as content from rows")  # noqa: S608
    return np.asarray(found.fetchnumpy()["content"], np.uint64)
