"""The part of a run that needs a cluster: requests in, final rows out, progress shown meanwhile.

Knows neither where rows are kept nor what earlier runs made. Ray Data does the waiting, restarting
and growing (`pipeline.cluster.ray_data_plan`). This module adds a second pass over samples that a
bad node may have killed.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass

import pyarrow as pa
import ray
from rich.console import Console

from pipeline.attempts.second_tries import requests_for, settled
from pipeline.calibration.measurement import ChosenProfile, FirstClips
from pipeline.cluster import nodes, ray_data_plan
from pipeline.cluster.capacity import Groups
from pipeline.cluster.connection import await_gpus, connected
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.cluster.ray_compat import await_ray_data_threads
from pipeline.config.run_config import RunConfig
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.models.memory.preflight import LargestCall
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.console import say
from pipeline.monitoring.progress import RunProgress
from pipeline.monitoring.prometheus import RunTelemetry
from pipeline.monitoring.summary import say_bad_nodes, say_left_out, say_second_tries
from pipeline.monitoring.totals import RunTotals
from pipeline.parallel.layout import choose_layout
from pipeline.requests.packing import with_first
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from pipeline.streaming.expected import Expected
from pipeline.streaming.request_feed import RequestFeed

THREADS_S = 30.0
"""Longest wait for Ray Data's threads at the end of a pass."""


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """What the cluster has to make in one run.

    Attributes:
        config: The run's settings.
        resolved: The model.
        factory: Builds the engine inside each actor; None loads the model.
        storage: The output prefix.
        run_id: Goes into every row.
        tables: Packed requests (`pipeline.requests.controls.pack`) in a column `REQUEST_COLUMN`.
            Emptied once Ray holds them, because they can be gigabytes.
        expected: How many requests there are, with the first clips, as far as that is known.
        rest: Hands out the requests after `tables`; None where there are none.
        again: Packs all requests once more, without the first clips; needed with `rest`.
        chosen: The profile that they are planned with.
        first: The clips that measure it; None where that is done, or not to be done.
        first_to_make: Those of them that have no row yet; `tables` does not hold them.
        largest: The largest engine call.
    """

    config: RunConfig
    resolved: ResolvedModel
    factory: EngineFactory | None
    storage: Storage
    run_id: str
    tables: list[pa.Table]
    expected: Callable[[], Expected]
    rest: RequestFeed | None = None
    again: Callable[[], Iterable[pa.Table]] | None = None
    chosen: ChosenProfile | None = None
    first: FirstClips | None = None
    first_to_make: Sequence[SampleRequest] = ()
    largest: LargestCall | None = None


def execute(
    run: ClusterRun, totals: RunTotals, console: Console
) -> Generator[pa.Table, None, None]:
    """Make all samples on the connected cluster, or on a private one.

    Args:
        run: What to make.
        totals: Of the rows so far; the caller adds each table that it receives.
        console: Shows the progress.

    Yields:
        Tables of output rows as they come, in any order; together one row for each request.

    Raises:
        UserError: The cluster has no room, or an error that no sample caused stops the run.
    """
    config = run.config
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        text = f"joining Ray at {address}" if address else "starting Ray on this machine"
        say(console, f"{text}, then loading the model: half a minute or more")
    # `run` does this too, but `ray.init` sets its own SIGTERM handler, which aborts the driver.
    with connected() as grows, interruptible():
        if config.device == "cuda":
            await_gpus(config.parallel.degree, config.wait_for_gpus_s)
        count = sum(table.num_rows for table in run.tables) + len(run.first_to_make)
        if run.rest is not None:
            count = max(count, run.expected().requests)
        groups = ray_data_plan.groups_for(count, config, run.resolved, grows=grows)
        if groups.remark:
            say(console, groups.remark)
        blocks = [ray.put(table) for table in with_first(run.tables, run.first_to_make)]
        run.tables.clear()
        kept = [] if run.rest else blocks  # Ray may forget what is made
        layout = choose_layout(config.parallel, run.resolved.spec, groups.device)
        if layout.size > 1:
            console.print(f"every copy of the model split by {layout}", highlight=False)
        ledger = RemoteLedger.start(
            run.storage,
            run.run_id,
            max_attempts=config.max_attempts,
            forget=config.retry_failed,
            stops=config.max_failed_fraction < 1,
        )

        def make_elsewhere(ids: Collection[str], shunned: Collection[str]) -> Iterable[pa.Table]:
            settle = _settle(run.first)
            packed: Iterable[pa.Table] = map(ray.get, kept)
            if run.again is not None and run.rest is not None:
                packed = itertools.chain(with_first([], run.first_to_make), run.again())
            tables, avoid = requests_for(packed, ids, settle), nodes.ids_of(shunned)
            try:
                others = ray_data_plan.groups_for(
                    sum(table.num_rows for table in tables),
                    config,
                    run.resolved,
                    grows=grows,
                    avoid=avoid,
                )
            except UserError:  # no other node has room: the failures are final
                return ()
            say_second_tries(console, len(ids), shunned)
            return _one_pass(run, [ray.put(table) for table in tables], others, ledger, avoid)

        expected = run.expected()
        progress = RunProgress(
            expected.requests,
            totals,
            console,
            gpu_price_per_hour=config.gpu_price_per_hour,
            groups=groups.replicas,
            redraws=expected.redraws,
            is_exact=expected.is_exact,
        )
        telemetry = RunTelemetry(
            run.run_id,
            total=expected.requests,
            model=run.resolved.spec.name,
            policy=config.cache.policy,
            gpu_price_per_hour=config.gpu_price_per_hour,
        )
        telemetry.update(totals)  # the rejected rows
        watching = (
            nodes.watched(groups, progress.say, progress.room_for) if grows else nullcontext()
        )
        try:
            # Closed inside the connection, because Ray Data should stop before Ray does.
            first_pass = closing(_one_pass(run, blocks, groups, ledger, feed=run.rest))
            with _reading(run.rest), progress, watching, first_pass as tables:
                del blocks
                for table in settled(tables, ledger, make_elsewhere):
                    yield table
                    now = run.expected()
                    progress.expect(now.requests, now.redraws, is_exact=now.is_exact)
                    progress.update(table)
                    telemetry.update(totals, now.requests)
            if run.rest is not None and run.rest.error is not None:
                raise run.rest.error
            say_bad_nodes(console, ledger.bad_nodes())
            say_left_out(console, ledger.left_out())
        except Exception as error:
            # Ray Data wraps a worker's error in one of several types and drops its cause.
            if text := ledger.complaint():
                raise UserError(text) from error
            raise


@contextmanager
def _reading(feed: RequestFeed | None) -> Iterator[None]:
    """Read the rest of the input within the block."""
    if feed is None:
        yield
        return
    feed.start()
    try:
        yield
    finally:
        feed.close()


def _settle(first: FirstClips | None) -> Callable[[list[SampleRequest]], list[SampleRequest]]:
    """What puts the profile of the run into requests that were packed before it was measured."""
    own = first.complete() if first else None
    return own.settle if own else lambda unit: unit


def _one_pass(
    run: ClusterRun,
    blocks: list[ray.ObjectRef[pa.Table]],
    groups: Groups,
    ledger: RemoteLedger,
    avoid: Collection[str] = (),
    *,
    feed: RequestFeed | None = None,
) -> Generator[pa.Table, None, None]:
    """Execute the Ray Data plan once, over all or some requests of a run."""
    dataset = ray_data_plan.requests_to_rows(
        blocks,
        run.config,
        run.resolved,
        groups,
        factory=run.factory,
        storage=run.storage,
        ledger=ledger,
        run_id=run.run_id,
        avoid=avoid,
        chosen=run.chosen,
        first=run.first,
        largest=run.largest,
        feed=feed,
    )
    before = set(threading.enumerate())
    try:
        yield from dataset.iter_batches(
            batch_size=None,
            batch_format="pyarrow",
            prefetch_batches=0,  # after a crash, rows that wait here would be made again
        )
    finally:
        await_ray_data_threads(before, THREADS_S)
