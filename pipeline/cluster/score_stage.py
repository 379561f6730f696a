"""Scores stored clips on a cluster, by Ray Data: rows in, tables of scores out."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import ray

from pipeline.cluster.actor_load import load_here
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.errors import UserError
from pipeline.redaction import guard_output
from pipeline.scoring.panel import ScoringPlan
from pipeline.scoring.score_prefix import score_row
from pipeline.scoring.stored_scores import STORED_SCHEMA
from pipeline.storage.storage import Storage

TASK_ROWS = 16
"""Clips of one task."""

_NEEDED = ("sample_id", "media_sha256", "media_bytes", "video", "fps", "caption", "seed", "source")
"""Columns of a row that reading and scoring its clip takes."""


class ScoreActor:
    """Reads and scores clips; one per CPU, or on a share of a GPU."""

    def __init__(self, storage: Storage, scorers: tuple[str, ...], ledger: RemoteLedger) -> None:
        """Load the scorers; called once per actor and again after each restart."""
        guard_output()
        self._storage = storage
        self._panel = load_here(ScoringPlan(scorers).panel, ledger, "the scorers")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map rows to their scores, in order."""
        rows = [score_row(self._storage, self._panel, row) for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=STORED_SCHEMA)


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
    # It only hears of loads: a score that fails is a null in its row, not an attempt.
    ledger = RemoteLedger.start(storage, "scoring", max_attempts=1, forget=True)
    dataset = ray.data.from_arrow(rows.select(list(_NEEDED)))
    dataset = dataset.repartition(target_num_rows_per_block=TASK_ROWS)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    dataset = dataset.map_batches(
        ScoreActor,
        fn_constructor_kwargs={"storage": storage, "scorers": scorers, "ledger": ledger},
        batch_size=TASK_ROWS,
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
