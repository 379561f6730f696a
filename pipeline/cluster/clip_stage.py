"""Scores or captions stored clips on a cluster, by Ray Data: rows in, tables out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from pipeline.captioning.captioner import caption_row, load_captioner
from pipeline.captioning.stored_captions import CAPTION_SCHEMA
from pipeline.cluster.actor_load import load_here
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.errors import UserError
from pipeline.process import begin_actor
from pipeline.scoring.panel import ScoringPlan
from pipeline.scoring.score_prefix import score_row
from pipeline.scoring.stored_scores import STORED_SCHEMA
from pipeline.storage.storage import Storage

RowWork = Callable[[Storage, Mapping[str, Any]], dict[str, Any]]
"""Reads the clip of a row, and returns what it found as a row of the result."""

_NEEDED = ("sample_id", "media_sha256", "media_bytes", "video", "fps", "caption", "seed", "source")
"""Columns of a row that reading, scoring and captioning its clip take."""


@dataclass(frozen=True, slots=True)
class ClipWork:
    """What is done to every clip; picklable.

    Attributes:
        job: Name of the job, for its ledger of loads.
        load: Makes what does it, once per process.
        what: What is loaded, in words.
        schema: Columns of the result.
        task_rows: Clips of one task.
    """

    job: str
    load: Callable[[], RowWork]
    what: str
    schema: pa.Schema
    task_rows: int


class ClipActor:
    """Reads clips and works on them; one per CPU, or on a share of a GPU."""

    def __init__(self, storage: Storage, work: ClipWork, ledger: RemoteLedger) -> None:
        """Load what works; called once per actor and again after each restart."""
        begin_actor()
        self._storage, self._schema = storage, work.schema
        self._do = load_here(work.load, ledger, work.what)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map rows to what was found out about their clips, in order."""
        rows = [self._do(self._storage, row) for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=self._schema)


def score_clips(
    storage: Storage, rows: pa.Table, scorers: tuple[str, ...], *, gpus: float = 0.0
) -> Iterator[pa.Table]:
    """Score clips on the connected cluster.

    Args:
        storage: The output prefix.
        rows: Rows of the clips.
        scorers: Names of scorers, sets expanded.
        gpus: Share of a GPU that each actor holds; 0 for scorers that run on CPUs.

    Yields:
        Tables of `STORED_SCHEMA`, in any order.

    Raises:
        UserError: No node can load the scorers.
    """
    load = functools.partial(_scoring, scorers)
    work = ClipWork("scoring", load, "the scorers", STORED_SCHEMA, task_rows=16)
    yield from _map_clips(storage, rows, work, gpus)


def caption_clips(
    storage: Storage, rows: pa.Table, captioner: str, *, gpus: float = 0.0
) -> Iterator[pa.Table]:
    """Caption clips on the connected cluster.

    Args:
        storage: The output prefix.
        rows: Rows of the clips.
        captioner: As `--captioner` takes it.
        gpus: Share of a GPU that each actor holds; 0 for captioners that run on CPUs.

    Yields:
        Tables of `CAPTION_SCHEMA`, in any order.

    Raises:
        UserError: No node can load the captioner.
    """
    load = functools.partial(_captioning, captioner)
    # A caption can take many seconds, and an interruption loses the tasks under way.
    work = ClipWork("captioning", load, "the captioner", CAPTION_SCHEMA, task_rows=4)
    yield from _map_clips(storage, rows, work, gpus)


def _scoring(scorers: tuple[str, ...]) -> RowWork:
    panel = ScoringPlan(scorers).panel()
    return lambda storage, row: score_row(storage, panel, row)


def _captioning(captioner: str) -> RowWork:
    loaded = load_captioner(captioner)
    return lambda storage, row: caption_row(storage, loaded, row)


def _map_clips(storage: Storage, rows: pa.Table, work: ClipWork, gpus: float) -> Iterator[pa.Table]:
    # It only hears of loads: what fails at a clip is in its row, not an attempt.
    ledger = RemoteLedger.start(storage, work.job, max_attempts=1, forget=True)
    dataset = ray.data.from_arrow(rows.select(list(_NEEDED)))
    dataset = dataset.repartition(target_num_rows_per_block=work.task_rows)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    dataset = dataset.map_batches(
        ClipActor,
        fn_constructor_kwargs={"storage": storage, "work": work, "ledger": ledger},
        batch_size=work.task_rows,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
    )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except Exception as error:
        if text := ledger.complaint():
            raise UserError(text) from error
        raise
