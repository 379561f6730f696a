"""One run: prompts in, a dataset prefix out. Read this file first, from top to bottom.

The driver reads and checks the input, drops the samples that are finished already, has the cluster
make the rest (`pipeline.cluster.execution`), and writes the rows that come back. The output prefix
holds everything that must survive a crash.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

from rich.console import Console

from pipeline.cluster.execution import ClusterRun, execute
from pipeline.cluster.ray_compat import submission_id
from pipeline.cluster.ray_data_plan import check_own_machine
from pipeline.commit_first import CommitFirst
from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import committed
from pipeline.dataset.manifest import Manifest, State, all_runs, new_run_id
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.recovery import recover
from pipeline.dataset.verify import Verified, verify
from pipeline.earlier_columns import lacking_lines
from pipeline.earlier_defaults import clips_of_other_defaults
from pipeline.engine.protocol import EngineFactory
from pipeline.interrupt import STOPPED, interruptible, uninterrupted, was_by_hand
from pipeline.models.hub_cache import check_available
from pipeline.models.memory.preflight import largest_call
from pipeline.models.resolve import model_of
from pipeline.monitoring.count_lines import input_lines, say_counted
from pipeline.monitoring.memory_lines import memory_lines
from pipeline.monitoring.prefix_lines import (
    say_not_made_again,
    say_other_runs,
    say_recovery,
    say_settings,
    say_storage,
    say_unsaved,
    say_verified,
)
from pipeline.monitoring.profile_lines import say_profile
from pipeline.monitoring.prometheus import count_store_retry
from pipeline.monitoring.recipe_lines import say_recipe
from pipeline.monitoring.result import RunResult, say_result
from pipeline.monitoring.summary import say_columns, say_dry_run, say_input, say_lines
from pipeline.pending_input import read_pending
from pipeline.prefix.first_card import write_first_card
from pipeline.prefix.foreign_files import refuse_foreign
from pipeline.prompts.reader import read_source
from pipeline.report.write import ReportWriter
from pipeline.requests.defaults import request_defaults
from pipeline.requests.run_settings import cache_used, own_settings
from pipeline.scoring.conditions import RowRank
from pipeline.scoring.panel import ScoringPlan
from pipeline.scoring.stored_scores import KeepChoice
from pipeline.scoring.verdicts import PrefixCondition, not_good
from pipeline.storage.places import check_kept
from pipeline.storage.storage import Storage
from pipeline.streaming.input_count import InputCount
from pipeline.supervisor import announce


def run(
    config: RunConfig,
    *,
    factory: EngineFactory | None = None,
    console: Console | None = None,
    first_only: bool = False,
) -> RunResult:
    """Make every sample of the input that the output prefix does not hold yet.

    Args:
        config: What to make and where.
        factory: Builds the engine inside each actor; the default loads the configured model.
        console: Shows progress and summary.
        first_only: Make only the clips that measure a profile for the others
            (`pipeline.calibration.measurement`).

    Returns:
        How it ended. Interruption is a result, not an exception: finished samples are committed.

    Raises:
        UserError: Bad configuration, input or output prefix, before any device is taken; or an
            output prefix that stops working midway.
    """
    with interruptible():
        return _run(config, factory, console or Console(), first_only)


def _run(
    config: RunConfig, factory: EngineFactory | None, console: Console, first_only: bool
) -> RunResult:
    # 1. Check the settings, the input and the output prefix.
    storage = Storage(config.output, on_retry=count_store_retry)
    check_kept(storage.uri, probe=config.dry_run)
    resolved = model_of(config)
    defaults = request_defaults(config, resolved, storage)
    panel = ScoringPlan(tuple(config.scorers), config.keep).panel()
    if config.best_of > 1:
        RowRank(config.select_by, panel.names)  # checked before any device is taken
    rows = read_source(config.prompts, config.prompt_column, config.columns, defaults.conditions)
    if not config.dry_run:
        if factory is None:
            check_available(resolved)
        storage = storage.check_writable()
        say_storage(console, storage)
    refuse_foreign(storage)

    # 2. Find out what is done: rows of earlier runs, and clips that lost their row.
    verified = verify(storage, repair=not config.dry_run) if config.verify else Verified()
    finished = committed(storage, retry_failed=config.retry_failed, save=config.save)
    finished = finished.without(verified.ids).including(verified.rebuilt)
    earlier_runs = all_runs(storage)
    say_other_runs(console, earlier_runs)
    recovery = recover(storage, finished, earlier_runs)
    say_recovery(console, recovery)
    keep = KeepChoice(config.keep, panel.names)
    condition = PrefixCondition.of(storage, keep, config.scorers, recovery.rows)

    # 3. Read the input, of a large one its first rows, and keep the requests that are left.
    pending = read_pending(
        config,
        resolved,
        defaults,
        rows,
        finished.including(recovery.ids),
        storage,
        not_good=not_good(storage, panel, recovery.rows) if config.redraw else None,
        first_only=first_only,
    )
    intake, tables, defaults = pending.intake, pending.tables, pending.defaults
    to_make = bool(tables or pending.first_to_make)
    counts = intake.counts
    result = RunResult(new_run_id(storage, submission_id()))
    result.count(counts)
    count = InputCount(pending, resolved.spec.name, result.run_id)
    expected = count.expected()
    say_input(console, config, resolved, counts, intake.steps, intake.reasons, expected)
    say_recipe(console, config)
    say_columns(console, intake.columns, pending.notes)
    exact, known = expected.is_exact, intake.known
    say_lines(console, lacking_lines(storage, earlier_runs, counts, known, is_exact=exact))
    say_lines(console, [*pending.long_prompts.lines(), *filter(None, [pending.why_whole])])
    say_profile(
        console,
        defaults.chosen,
        pending.first,
        config.cache.profile,
        intake.steps.keys() - {defaults.template.num_inference_steps},
        first_only=first_only,
    )
    say_lines(console, [panel.line(), *condition.lines(config.keep, dry_run=config.dry_run)])
    largest = largest_call(pending.largest, config, resolved)
    say_lines(console, memory_lines(largest) if config.device != "cpu" else ())
    mine, spec = own_settings(defaults), resolved.spec
    others = clips_of_other_defaults(storage, earlier_runs, config, spec, mine, known)
    say_settings(console, finished.settings, mine, others)
    say_unsaved(console, finished.unsaved, config.save, defaults.template.cache.policy)
    if config.verify:
        say_verified(console, verified)
    if exact:
        say_not_made_again(console, verified, known)
    if config.dry_run:
        cached = intake.steps.total()
        say_dry_run(console, config, storage, defaults.template, mine, counts.pending, cached)
        return result
    report_writer = ReportWriter.of(config, storage, console)
    if not (to_make or intake.rejected or recovery.found or verified.rows.num_rows):
        condition.store()
        report_writer.mend(earlier_runs)
        return result
    if to_make:
        check_own_machine(config, resolved)

    # 4. Announce this run in the prefix.
    manifest = Manifest(
        result.run_id,
        config.to_dict(),
        asdict(counts),
        searched=recovery.searched,
        cache=cache_used(config.cache, defaults.chosen),
    )
    manifest.write(storage)
    write_first_card(storage)
    condition.store()
    if pending.first is not None:
        pending.first.keep_choice()
    announce(config.output, result.run_id)
    # Look again: of two runs that begin at the same time, the later one sees the other.
    seen = {result.run_id, *(earlier.run_id for earlier in earlier_runs)}
    say_other_runs(console, all_runs(storage, seen))

    # 5. Make the samples and write their rows, until all are done or a signal comes.
    parts = PartWriter(
        storage, result.run_id, part_rows=config.part_rows, part_seconds=config.part_seconds
    )
    said = input_lines(pending)

    def say_rest(error: Exception | None) -> None:
        say_counted(console, pending, said, largest, error)
        say_not_made_again(console, verified, known)

    count.on_end = say_rest
    state: State = "error"
    problem = ""
    try:
        with manifest.alive(storage):
            parts.add(verified.rows)
            parts.add(recovery.rows)
            rejected = count.update()
            parts.add(rejected)
            result.totals.add(rejected)
            if to_make:
                cluster_run = ClusterRun(
                    config.model_copy(update={"batch_rows": largest.rows}) if largest else config,
                    resolved,
                    factory,
                    storage,
                    result.run_id,
                    tables,
                    count.expected,
                    count.feed,
                    pending.again,
                    defaults.chosen,
                    pending.first,
                    pending.first_to_make,
                    largest,
                )
                commit = CommitFirst(parts, manifest, storage, result.totals)
                with closing(execute(cluster_run, result.totals, console)) as made, commit.first():
                    for table in count.with_rejected(commit.while_waiting(made)):
                        parts.add(table)
                        result.totals.add(table)
                        report_writer.add(table)
            parts.flush()  # a run is done when its last row is written
            if pending.first is not None and (own := pending.first.complete()) is not None:
                manifest.cache = {**manifest.cache, "profile": own.profile.hash}
            state = "done"
    except STOPPED:
        state, result.interrupted = "interrupted", True
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        with uninterrupted():
            result.count(counts)
            manifest.input = asdict(counts)
            try:
                parts.flush()
            finally:
                manifest.parts = parts.written
                manifest.end(storage, state, asdict(result.totals), problem)

    # 6. Summarise. After SIGTERM there is no time for a report: the node may be taken away.
    totals, more = result.totals, bool(result.done_before)
    say_result(console, config, totals, result.interrupted, is_part=more, rejected=result.rejected)
    if not result.interrupted or (was_by_hand() and parts.written):
        report_writer.write(judged=totals.good + totals.not_good)
    elif parts.written:
        report_writer.say_how()
    return result
