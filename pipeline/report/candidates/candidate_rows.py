"""Which rows are tries at one sample, and which drafts a clip was chosen by.

Tries at a sample differ in their seeds alone. So a row is known here by its seed and by a hash of
everything else that an input row or a run can set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.parts import conform, read_parts
from pipeline.report.rows import Floats, Mask, Rows
from pipeline.storage.keys import StoredFile

_CONTENT = (
    *("caption", "negative_prompt", "settings", "num_inference_steps", "guidance_scale"),
    *("guidance_scale_2", "width", "height", "num_frames", "fps", "conditions"),
)
_COLUMNS = (*_CONTENT, "seed", "seed_u64", "candidate", "drafts")

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DraftTable:
    """The drafts of all clips that were chosen by drafts, as columns.

    Attributes:
        places: Positions of the clips among the rows of the report.
        counts: Drafts of each clip, in the order of `places`; at least one.
        seeds: Of each draft; those of one clip follow one another.
        values: Of `--select-by`, NaN where unknown.
        gpu_s: Device seconds.
        nfe: Evaluations.
        ids: Sample ids.
    """

    places: Places
    counts: Places
    seeds: Hashes
    values: Floats
    gpu_s: Floats
    nfe: Floats
    ids: pa.Array

    @property
    def first(self) -> Places:
        """Position of each clip's first draft."""
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)

    def where(self, kept: Mask) -> DraftTable:
        """The drafts of some of the clips, given as a mask over `places`."""
        drafts = np.repeat(kept, self.counts)
        return DraftTable(
            self.places[kept],
            self.counts[kept],
            self.seeds[drafts],
            self.values[drafts],
            self.gpu_s[drafts],
            self.nfe[drafts],
            self.ids.filter(pa.array(drafts)),
        )


@dataclass(frozen=True)
class CandidateRows:
    """What tells the candidates of a prefix apart, one entry per row of the report.

    Attributes:
        content: Hashes of what a row was made from, its seed left out.
        seeds: Seeds.
        numbers: Which try at its sample a row is, from 1.
        drafts: The drafts that clips were chosen by.
    """

    content: Hashes
    seeds: Hashes
    numbers: Places
    drafts: DraftTable


def keys(content: Hashes, seeds: Hashes) -> Hashes:
    """Hashes of what rows were made from, their seeds included."""
    mixed = seeds * np.uint64(0x9E3779B97F4A7C15)  # odd, so different seeds stay different
    return np.asarray(content ^ mixed ^ (mixed >> np.uint64(32)))


def find(wanted: Hashes, among: Hashes) -> Places:
    """Position of each wanted key among others, -1 where it is not there."""
    if not len(among):
        return np.full(len(wanted), -1)
    order = np.argsort(among)
    at = order[np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)]
    return np.where(among[at] == wanted, at, -1)


def read_candidates(rows: Rows) -> CandidateRows | None:
    """Read the candidates of a prefix; None where every sample had one try.

    Raises:
        StorageError: A part cannot be read.
    """
    if not (rows.known("candidates") > 1).any():
        return None
    content, seeds, numbers, counts = [], [], [], []
    drafts: list[pa.StructArray] = []
    with duckdb.connect(config={"threads": 1}) as database:
        for table in read_parts(rows.storage, rows.files, _read):
            content.append(_content(database, table))
            seed = pc.coalesce(table["seed_u64"], pc.abs(table["seed"]).cast(pa.uint64()))
            seeds.append(seed.fill_null(0).to_numpy())
            numbers.append(np.maximum(table["candidate"].fill_null(1).to_numpy(), 1))
            lists = table["drafts"].combine_chunks()
            counts.append(pc.list_value_length(lists).fill_null(0).to_numpy())
            drafts.append(pc.list_flatten(lists))
    return CandidateRows(
        np.concatenate(content),
        np.concatenate(seeds).astype(np.uint64),
        np.concatenate(numbers).astype(np.int64),
        _drafts(np.concatenate(counts).astype(np.int64), pa.concat_arrays(drafts)),
    )


def _drafts(counts: Places, flat: pa.StructArray) -> DraftTable:
    places = np.flatnonzero(counts)

    def column(name: str, missing: float) -> Any:
        values = pc.struct_field(flat, name)
        return values.fill_null(missing).to_numpy(zero_copy_only=False)

    return DraftTable(
        places,
        counts[places],
        column("seed_u64", 0).astype(np.uint64),
        column("value", np.nan).astype(np.float64),
        column("gpu_s", 0.0).astype(np.float64),
        column("nfe", 0).astype(np.float64),
        pc.struct_field(flat, "sample_id"),
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
