"""The part of a run that needs a cluster: requests in, final rows out, with what is said meanwhile.

Knows neither where rows are kept nor what was done before. Waiting, restarting and growing are Ray
Data's (`pipeline.cluster.ray_data_plan`); what is added here is a second pass over what a bad node
may have killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass

import pyarrow as pa
import ray
from rich.console import Console

from pipeline.attempts.second_tries import requests_for, settled
from pipeline.cluster import capacity, nodes, ray_data_plan
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.config.run_config import RunConfig
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.progress import RunProgress
from pipeline.monitoring.prometheus import RunTelemetry
from pipeline.monitoring.summary import say_bad_nodes, say_second_tries
from pipeline.monitoring.totals import RunTotals
from pipeline.parallel.layout import choose_layout
from pipeline.storage.storage import Storage

RAY_DATA_THREADS = ("iter_threaded", "StreamingExecutor")
"""Threads of Ray Data 2.60 that ask Ray for blocks, and end with their pass."""

THREADS_S = 30.0
"""Longest wait for them: they may ask a node that is gone."""


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """What one run has to make.

    Attributes:
        config: Of the run.
        resolved: The model.
        factory: Builds the engine inside each actor; None loads the model.
        storage: The output prefix.
        run_id: Of the run.
        tables: Packed requests (`pipeline.requests.controls.pack`), in a column `REQUEST_COLUMN`.
            Emptied once Ray holds them: they can be gigabytes.
        pending: How many.
    """

    config: RunConfig
    resolved: ResolvedModel
    factory: EngineFactory | None
    storage: Storage
    run_id: str
    tables: list[pa.Table]
    pending: int


def generate(
    work: ClusterRun, tally: RunTotals, console: Console
) -> Generator[pa.Table, None, None]:
    """Make everything on the connected cluster, or on one of our own.

    Args:
        work: What to make.
        tally: Of the rows so far; the caller adds each table that it is given.
        console: Where progress goes.

    Yields:
        Rows as they come, in any order, one for each request.

    Raises:
        UserError: The cluster has no room, or a fault stops the run that is no sample's.
    """
    config = work.config
    # Again inside: `ray.init` puts its own SIGTERM handler in place, which aborts the driver.
    with capacity.connected() as grows, interruptible():
        if config.device == "cuda":
            capacity.await_gpus(config.parallel.degree, config.wait_for_gpus_s)
        groups = ray_data_plan.groups_for(work.tables, config, work.resolved, grows=grows)
        if groups.remark:
            console.print(groups.remark, highlight=False)
        blocks = [ray.put(table) for table in work.tables]
        work.tables.clear()
        layout = choose_layout(config.parallel, work.resolved.spec, groups.device)
        if layout.size > 1:
            console.print(f"every copy of the model split by {layout}", highlight=False)
        ledger = RemoteLedger.start(
            work.storage,
            work.run_id,
            max_attempts=config.max_attempts,
            forget=config.retry_failed,
        )

        def make_elsewhere(ids: Collection[str], shunned: Collection[str]) -> Iterable[pa.Table]:
            left, avoid = requests_for(map(ray.get, blocks), ids), nodes.ids_of(shunned)
            try:
                others = ray_data_plan.groups_for(
                    left, config, work.resolved, grows=grows, avoid=avoid
                )
            except UserError:  # no other node has room: what failed has failed
                return ()
            say_second_tries(console, len(ids), shunned)
            return _made(work, [ray.put(table) for table in left], others, ledger, avoid)

        progress = RunProgress(
            work.pending,
            tally,
            console,
            gpu_price_per_hour=config.gpu_price_per_hour,
            groups=groups.replicas,
        )
        telemetry = RunTelemetry(
            work.run_id,
            total=work.pending,
            model=work.resolved.spec.name,
            policy=config.cache.policy,
            gpu_price_per_hour=config.gpu_price_per_hour,
        )
        telemetry.update(tally)  # rejected rows
        watching = nodes.watched(groups, progress.say) if grows else nullcontext()
        try:
            # Closed in here: Ray Data should have stopped before Ray does.
            made = closing(_made(work, blocks, groups, ledger))
            with progress, watching, made as tables:
                for table in settled(tables, ledger, make_elsewhere):
                    yield table
                    progress.update(table)
                    telemetry.update(tally)
            say_bad_nodes(console, ledger.bad_nodes())
        except Exception as error:
            # Ray Data wraps a worker's error in one of several types and drops its cause.
            if text := ledger.complaint():
                raise UserError(text) from error
            raise


def _made(
    work: ClusterRun,
    blocks: list[ray.ObjectRef[pa.Table]],
    groups: capacity.Groups,
    ledger: RemoteLedger,
    avoid: Collection[str] = (),
) -> Generator[pa.Table, None, None]:
    """One pass of Ray Data over some requests."""
    dataset = ray_data_plan.requests_to_rows(
        blocks,
        work.config,
        work.resolved,
        groups,
        factory=work.factory,
        storage=work.storage,
        ledger=ledger,
        run_id=work.run_id,
        avoid=avoid,
    )
    before = set(threading.enumerate())
    try:
        yield from dataset.iter_batches(
            batch_size=None,
            batch_format="pyarrow",
            prefetch_batches=0,  # a row held back here is a row that a crash makes again
        )
    finally:
        _await_ray_data(before)


def _await_ray_data(before: Collection[threading.Thread]) -> None:
    """Wait for the threads of a pass that has ended; Ray Data does not.

    One that still asks Ray for a block when Ray is shut down ends the process on the spot, with
    exit code 1 and without a word of ours.
    """
    until = time.monotonic() + THREADS_S
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith(RAY_DATA_THREADS):
            thread.join(max(0.0, until - time.monotonic()))
