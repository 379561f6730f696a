"""Clips of earlier runs that took other defaults from their run: a size, steps, guidance, a seed.

The column `settings` (`pipeline.requests.run_settings`) leaves out what an input row may set. So
the clips of two runs that differ only in such a default have the same `settings`. The manifests of
the runs tell them apart. A clip counts if its run had another default than this run, the clip took
that default or would take the one of this run, and the input of this run does not hold the clip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import Ids
from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.parts import part_files, read_parts
from pipeline.errors import StorageError
from pipeline.models.spec import ModelSpec
from pipeline.monitoring.prefix_lines import Differences
from pipeline.requests.run_settings import ROW_SETTINGS, SEED
from pipeline.requests.seeds import copy_seed, draft_seed, redraw_seed
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

_READ = ("sample_id", "status", "settings", "run_id", SEED, *ROW_SETTINGS)

Known = Callable[[Ids], npt.NDArray[np.bool_]]
"""Which of some samples the input of this run holds."""


def defaults_of(config: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """Return what the clips of a run inherit, as their rows say it.

    Args:
        config: The settings of the run, as its manifest holds them.
        spec: Its model.

    Returns:
        A value for each of `ROW_SETTINGS`, and for the seed, which is None where each seed follows
        from its prompt.
    """
    sampling = config.get("sampling") or {}
    given = {name: value for name, value in sampling.items() if value is not None}
    found = {name: given.get(name, getattr(spec.defaults, name)) for name in ROW_SETTINGS}
    if "sigmas" in given:
        found["num_inference_steps"] = len(given["sigmas"])
    if found["guidance_scale"] <= 1.0 and not spec.pipeline.distilled_guidance:
        found |= {"guidance_scale": 1.0, "guidance_scale_2": None, "negative_prompt": ""}
    return found | {SEED: given.get("seed")}


def clips_of_other_defaults(
    storage: Storage,
    runs: Sequence[RunStatus],
    config: RunConfig,
    spec: ModelSpec,
    settings: Sequence[str],
    known: Known,
) -> Counter[Differences]:
    """Count the clips of earlier runs that had other defaults.

    It reads only the parts of such runs, and of runs that took over clips of them.

    Args:
        storage: The output prefix.
        runs: Its runs.
        config: The settings of this run.
        spec: Its model.
        settings: `settings` of its clips. Clips with others are said to differ by that column.
        known: Which samples the input of this run holds, as far as it is read.

    Raises:
        StorageError: A part cannot be read, or is not ours.
    """
    own = defaults_of(config.to_dict(), spec)
    others: dict[str, _OtherRun] = {}
    for run in runs:
        theirs = defaults_of(run.config, spec)
        if differ := tuple((k, v, own[k]) for k, v in theirs.items() if v != own[k]):
            others[run.run_id] = _OtherRun(differ, run.config, config.to_dict())
    holders = others.keys() | {run.run_id for run in runs if others.keys() & run.searched.keys()}
    # A Dataset's tasks put a name of their own behind that of the run.
    began = tuple(f"data/part-{run_id}-" for run_id in holders)
    files = [file for file in part_files(storage) if file.key.startswith(began)]

    def read(opened: Any, file: StoredFile) -> list[tuple[Differences, Ids]]:
        try:
            table = pq.ParquetFile(opened).read(list(_READ), use_threads=False)
            return _taken(table, others, settings)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise StorageError(f"{storage.uri}/{file.key} is damaged: {error}") from error

    total: Counter[Differences] = Counter()
    if others:
        for found in read_parts(storage, files, read):
            for differ, ids in found:
                if clips := int(np.count_nonzero(~known(ids))):
                    total[differ] += clips
    return total


@dataclass(frozen=True, slots=True)
class _OtherRun:
    """An earlier run with other defaults.

    Attributes:
        differ: Which.
        config: Its settings.
        own: The settings of this run.
    """

    differ: Differences
    config: Mapping[str, Any]
    own: Mapping[str, Any]

    def are_other(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which of its rows this run would make otherwise.

        A setting that a run gives wins over the column of its name, for all rows. One that it does
        not give holds for rows without such a column.
        """
        found = np.zeros(table.num_rows, np.bool_)
        sampling = self.own["sampling"]
        for name, theirs, own in self.differ:
            if name not in table.column_names:  # a part of an older version
                continue
            is_given = sampling["seed" if name == SEED else name] is not None
            config, value = (self.own, own) if is_given else (self.config, theirs)
            if name == SEED:
                has = pc.is_in(table[name], pa.array(list(_seeds(value, config)), pa.uint64()))
            elif value is None:
                has = pc.is_null(table[name])
            else:
                has = pc.equal(table[name], value)
            mask = has.fill_null(False).to_numpy()
            found |= ~mask if is_given else mask
        return found


def _seeds(first: int, config: Mapping[str, Any]) -> Iterator[int]:
    """The seeds of a row's clips, drafts and redraws.

    Args:
        first: Seed of its first clip.
        config: The settings of the run.
    """
    for copy in range(config.get("samples_per_prompt") or 1):
        seed = copy_seed(first, copy)
        for place in range(config.get("best_of") or 1):
            yield draft_seed(seed, place)
        for _ in range(config.get("redraw") or 0):
            yield (seed := redraw_seed(seed))


def _taken(
    table: pa.Table, runs: Mapping[str, _OtherRun], settings: Sequence[str]
) -> list[tuple[Differences, Ids]]:
    """The clips of a part that have the default of a run with others, by what differs."""
    if "settings" not in table.column_names:  # said as settings that were not recorded
        return []
    found = []
    own = pc.and_(
        pc.equal(table["status"], "ok"),
        pc.is_in(table["settings"], pa.array(settings, pa.string())),
    )
    table = table.filter(own)
    for run_id in pc.unique(table["run_id"]).to_pylist():
        if (run := runs.get(run_id)) is None:
            continue
        mine = table.filter(pc.equal(table["run_id"], run_id))
        mine = mine.filter(pa.array(run.are_other(mine)))
        found.append((run.differ, Ids.from_hex(mine["sample_id"])))
    return found
