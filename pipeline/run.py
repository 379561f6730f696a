"""One run: prompts in, a dataset prefix out; short enough to read at once.

The driver reads and checks the input, drops what is already committed, hands the rest to the plan
(`pipeline.cluster.ray_data_plan`), and writes the rows that come back. All bookkeeping that must
survive a crash is in the output prefix.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field

import pyarrow as pa
from rich.console import Console

from pipeline.cluster.execution import ClusterRun, generate
from pipeline.cluster.group_actor import REQUEST_COLUMN
from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import committed
from pipeline.dataset.manifest import (
    Manifest,
    State,
    latest_signs,
    new_run_id,
)
from pipeline.dataset.parts import Sink
from pipeline.dataset.recovery import recover
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.engine.protocol import EngineFactory
from pipeline.interrupt import STOPPED, interruptible, uninterrupted
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.projection import project
from pipeline.monitoring.prometheus import count_store_retry
from pipeline.monitoring.summary import (
    say_dry_run,
    say_input,
    say_neighbours,
    say_recovery,
    say_result,
)
from pipeline.monitoring.totals import RunTotals
from pipeline.prompts.images import Images
from pipeline.prompts.reader import read_source
from pipeline.report.write import ReportWriter
from pipeline.requests.controls import pack, units
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.storage.storage import Storage

BLOCK_ROWS = 1000
"""Requests per Arrow table handed to Ray, which cuts them into tasks of one engine call each."""


@dataclass(slots=True)
class RunReport:
    """How a run ended.

    Attributes:
        run_id: Names its manifest, `runs/{run_id}.json`.
        done_before: Samples of this input that earlier runs had finished.
        failed_before: Those of them that ended as failed rows.
        interrupted: Stopped by SIGINT or SIGTERM; the same command goes on.
        tally: Sums over the rows of this run.
    """

    run_id: str
    done_before: int = 0
    failed_before: int = 0
    interrupted: bool = False
    tally: RunTotals = field(default_factory=RunTotals)

    @property
    def failed_fraction(self) -> float:
        """Failed over all finished samples of this input, those of earlier runs included."""
        finished = self.done_before + self.tally.made
        return (self.failed_before + self.tally.failed) / finished if finished else 0.0


def run(
    config: RunConfig,
    *,
    factory: EngineFactory | None = None,
    console: Console | None = None,
) -> RunReport:
    """Make every sample of the input that the output prefix does not hold yet.

    Args:
        config: What to make and where.
        factory: Builds the engine inside each actor; the default loads the configured model.
        console: Where progress and the summary go.

    Returns:
        How it ended. Interruption is a result, not an exception: what is made is committed.

    Raises:
        UserError: Bad configuration, input or output prefix, before any device is taken; or an
            output prefix that stops working midway.
    """
    with interruptible():
        return _run(config, factory, console or Console())


def _run(config: RunConfig, factory: EngineFactory | None, console: Console) -> RunReport:
    storage = Storage(config.output, on_retry=count_store_retry)
    resolved = resolve_model(config.model, config.model_path)
    defaults = request_defaults(config, resolved)
    rows = read_source(config.prompts, config.prompt_column)
    if not config.dry_run:
        storage.check_writable()
    before = committed(storage, retry_failed=config.retry_failed)
    signs = latest_signs(storage)
    say_neighbours(console, [sign for sign in signs if sign.alive])
    found = recover(storage, before, signs)
    say_recovery(console, found)
    before = before.including(found.ids)
    intake = Intake(
        rows,
        defaults,
        before,
        config.samples_per_prompt,
        config.limit,
        config.control_fraction,
        Images(storage, store=not config.dry_run),
    )
    with _few_objects():
        tables = list(_request_tables(intake))
    report = RunReport(new_run_id(storage), intake.counts.done, intake.counts.done_failed)
    say_input(console, config, resolved, intake.counts, intake.steps)
    if config.dry_run:
        say_dry_run(console, config, project(storage, intake.counts.pending))
    if config.dry_run or not (tables or intake.rejected or found.rows.num_rows):
        return report

    manifest = Manifest(report.run_id, config.to_dict(), asdict(intake.counts))
    manifest.write(storage)
    # Again, for runs that began in between: of two at once the later one sees the other.
    late = latest_signs(storage, {report.run_id, *(sign.run_id for sign in signs)})
    say_neighbours(console, [sign for sign in late if sign.alive])
    sink = Sink(
        storage, report.run_id, part_rows=config.part_rows, part_seconds=config.part_seconds
    )
    report_writer = ReportWriter(storage, console)
    state: State = "error"
    problem = ""
    try:
        with manifest.alive(storage):
            rejected = _rejected_table(intake, resolved, report.run_id)
            sink.add(found.rows)
            sink.add(rejected)
            report.tally.add(rejected)
            if tables:
                work = ClusterRun(
                    config,
                    resolved,
                    factory,
                    storage,
                    report.run_id,
                    tables,
                    intake.counts.pending,
                )
                with closing(generate(work, report.tally, console)) as made:
                    for table in made:
                        sink.add(table)
                        report.tally.add(table)
                        report_writer.add(table)
            sink.flush()  # a run is done when its last row is written
            state = "done"
    except STOPPED:
        state, report.interrupted = "interrupted", True
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        with uninterrupted():
            try:
                sink.flush()
            finally:
                manifest.end(storage, state, asdict(report.tally), problem)
    say_result(console, config, report.tally, report.interrupted)
    if not report.interrupted:  # a node that is taken away has other worries
        report_writer.write(contact_sheet=config.contact_sheet, report=config.report)
    return report


@contextmanager
def _few_objects() -> Iterator[None]:
    """Spare the garbage collector all libraries, which it would walk again and again meanwhile.

    What is garbage already goes first: a failed run leaves handles of actors behind, and those
    would hold their devices for as long as they are frozen.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _request_tables(intake: Intake) -> Iterator[pa.Table]:
    block: list[str] = []
    for unit in units(intake):
        block.append(pack(unit))
        if len(block) == BLOCK_ROWS:
            yield pa.table({REQUEST_COLUMN: block})
            block = []
    if block:
        yield pa.table({REQUEST_COLUMN: block})


def _rejected_table(intake: Intake, resolved: ResolvedModel, run_id: str) -> pa.Table:
    return to_table(
        [
            rejected_row(
                row.sample_id,
                row.caption,
                row.source_key,
                resolved.spec.name,
                run_id,
                row.message,
            )
            for row in intake.rejected
        ]
    )
