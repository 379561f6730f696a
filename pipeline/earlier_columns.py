"""Finished clips of this input whose rows lack a column that the input has by now.

`source` is no part of the sample id, so a row keeps what its input had when the clip was made. An
input that comes again with a new column therefore gives it to new clips alone. The manifests of
`pipeline.run` say which columns an input had. Of other runs (Datasets, older versions) the rows
tell: a run of which no row has a column had none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.committed import Ids
from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.parts import part_files, read_parts
from pipeline.errors import StorageError
from pipeline.requests.reasons import InputCounts
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage
from pipeline.wording import counted

Known = Callable[[Ids], npt.NDArray[np.bool_]]
"""Which of some samples the input of this run holds."""

_READ = {"sample_id", "status", "control_of", "source"}


def lacking_lines(
    storage: Storage,
    runs: Sequence[RunStatus],
    counts: InputCounts,
    known: Known,
    *,
    is_exact: bool = True,
) -> Iterator[str]:
    """Say how many finished clips of the input lack some of its columns.

    It reads only the parts of runs whose manifests do not say that they had all these columns.

    Args:
        storage: The output prefix.
        runs: Its earlier runs.
        counts: What became of the input so far, with its columns.
        known: Which samples the input holds, as far as it is read.
        is_exact: Whether all of it is read.

    Raises:
        StorageError: A part cannot be read, or is not ours.
    """
    own = list(counts.columns)
    if not (own and counts.done):
        return
    recorded = {f"data/part-{run.run_id}-": run.columns for run in runs}

    def writer_of(file: StoredFile) -> str:
        # A Dataset's tasks put a name of their own behind that of the run.
        return next((run for run in recorded if file.key.startswith(run)), file.key)

    files = [
        file
        for file in part_files(storage)
        if not (recorded.get(writer_of(file)) or frozenset()).issuperset(own)
    ]

    def read(opened: Any, file: StoredFile) -> tuple[str, Ids, set[str]]:
        try:
            parquet = pq.ParquetFile(opened)
            there = [name for name in parquet.schema_arrow.names if name in _READ]
            table = parquet.read(there, use_threads=False)
            has_ids = Ids.from_hex(_clips(table)["sample_id"])
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise StorageError(f"{storage.uri}/{file.key} is damaged: {error}") from error
        writer = writer_of(file)
        found = recorded.get(writer) or _columns(table, own)
        return writer, has_ids.take(known(has_ids)), {name for name in own if name in found}

    clips: dict[str, list[Ids]] = {}
    columns: dict[str, set[str]] = {}
    for writer, ids, found in read_parts(storage, files, read):
        clips.setdefault(writer, []).append(ids)
        columns.setdefault(writer, set()).update(found)
    lacking = [writer for writer, ids in clips.items() if any(map(len, ids))]
    lacking = [writer for writer in lacking if len(columns[writer]) < len(own)]
    if not lacking:
        return
    some = [ids for writer in lacking for ids in clips[writer]]
    unique = Ids(*(np.concatenate([getattr(i, n) for i in some]) for n in ("high", "low"))).first()
    number = int(np.count_nonzero(unique))
    names = [name for name in own if any(name not in columns[writer] for writer in lacking)]
    least = "" if is_exact else "At least "
    yield (
        f"{least}{counted(number, 'clip', grouped=True)} of this input "
        f"{'was' if number == 1 else 'were'} made before without the "
        f"column{'s' * (len(names) > 1)} {', '.join(names)}: finished rows keep the `source` that "
        "they were made with. To have it in all rows, choose another --output."
    )


def _clips(table: pa.Table) -> pa.Table:
    """The rows of clips, without controls."""
    own = pc.equal(table["status"], "ok")
    if "control_of" in table.column_names:
        own = pc.and_(own, pc.equal(table["control_of"].fill_null(""), ""))
    return table.filter(own)


def _columns(table: pa.Table, names: Sequence[str]) -> set[str]:
    """Which of some columns the `source` of some row holds; it was written by `source_json`."""
    if "source" not in table.column_names:
        return set()
    keys = {name: f"{json.dumps(name, ensure_ascii=False)}:" for name in names}
    return {
        name
        for name, key in keys.items()
        if pc.any(pc.match_substring(table["source"], key)).as_py()
    }
