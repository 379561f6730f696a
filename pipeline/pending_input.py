"""What of the input is left to make, packed for Ray, with the profile that it is planned with.

Of a large input only the first rows are read here: as many as tell what the run will be like. The
rest is read while clips are made (`PendingInput.rest`), so the first clip does not wait for it.

Where the run has yet to measure its profile, this module chooses the clips that do it. They are
uncached, rows of the dataset, and made before all others.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.calibration.measurement import FirstClips, chosen_before, measurement_key
from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import FAILED, Committed, Ids
from pipeline.models.prompt_length import local_tokenizer
from pipeline.models.spec import ResolvedModel
from pipeline.process import frozen_objects
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.prompt_file import ReadNotes, SourceSize
from pipeline.prompts.reader import PromptRows, distinct_values, read_source
from pipeline.requests.columns import ColumnUse
from pipeline.requests.controls import content_digest, units
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.long_prompts import LongPrompts
from pipeline.requests.packing import (
    FirstChoice,
    first_clips,
    pack_first,
    pack_rest,
    recorded_twin,
)
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from pipeline.streaming.head import HeadOfInput

Unit = list[SampleRequest]
"""A sample, alone or with its control."""

CLIPS_PER_FIRST = 2
"""A run measures a profile of its own if it wants this many clips for each one that measures it."""


@dataclass(frozen=True)
class PendingInput:
    """The requests of a run that are left to make.

    Attributes:
        defaults: What rows inherit, and the run's profile.
        intake: What became of the input.
        tables: Packed requests, without the first clips; of the rows that were read.
        notes: What the reader of the files found.
        size: What the files tell of the number of rows.
        long_prompts: Prompts that the text encoder does not read to their end.
        first: The clips that measure the run's profile; None where nothing is to be measured.
        first_to_make: Those of them that have no row yet.
        units: Requests of the rows that are not read yet, those of some rows at once; None if all
            are read.
        reopened: Opens the input once more.
        why_whole: Why a large input was read to its end, "" if it was not.
        of_sizes: A request of the largest size of the input, where a column told before all rows
            were read.
    """

    defaults: RequestDefaults
    intake: Intake
    tables: list[pa.Table]
    notes: ReadNotes
    size: SourceSize
    long_prompts: LongPrompts
    first: FirstClips | None = None
    first_to_make: tuple[SampleRequest, ...] = ()
    units: Iterator[list[Unit]] | None = None
    reopened: Callable[[], Iterable[list[Unit]]] = tuple
    why_whole: str = ""
    of_sizes: SampleRequest | None = None

    @property
    def largest(self) -> SampleRequest | None:
        """One of the requests with most pixels in all their frames, as far as that is known."""
        return self.of_sizes or self.intake.largest

    def rest(self) -> Iterator[pa.Table | None]:
        """Pack the requests of the rows that are not read yet (`pack_rest`), while they are."""
        return pack_rest(self._without_first(self.units or (), self.intake))

    def again(self) -> Iterator[pa.Table]:
        """Read the input once more, and pack all requests but those of the first clips."""
        packed = pack_rest(self._without_first(self.reopened()))
        return (table for table in packed if table is not None)

    def _without_first(
        self, found: Iterable[list[Unit]], counted: Intake | None = None
    ) -> Iterator[list[Unit]]:
        """Leave out the clips that the first clips stand for, in the counts too."""
        ids = {each.sample_id for each in self.first.requests} if self.first else set()

        def is_left(unit: Unit) -> bool:
            if not ids or unit[0].control_of or recorded_twin(unit[0]).sample_id not in ids:
                return True
            if counted is not None:
                counted.counts.pending -= len(unit)
                counted.counts.controls -= len(unit) - 1
                counted.steps[unit[0].num_inference_steps] -= 1
            return False

        for some in found:
            yield [unit for unit in some if is_left(unit)]


def read_pending(
    config: RunConfig,
    resolved: ResolvedModel,
    defaults: RequestDefaults,
    rows: PromptRows,
    finished: Committed,
    storage: Storage,
    *,
    not_good: Ids | None = None,
    first_only: bool = False,
) -> PendingInput:
    """Read the input, and keep the requests that are left.

    Args:
        config: The run's settings.
        resolved: The model.
        defaults: From `request_defaults`, with the output prefix.
        rows: The input, freshly opened.
        finished: What the prefix holds.
        storage: The prefix.
        not_good: Sorted ids of its clips that get another try.
        first_only: Leave out all clips but those that measure the run's profile.

    Raises:
        UserError: The input cannot be read.
        StorageError: The prefix cannot be read or written.
    """
    pending = _read(config, resolved, defaults, rows, finished, storage, not_good)
    counts = pending.intake.counts
    if not defaults.chosen.is_pending:
        return _without_rest(pending) if first_only else pending
    least = first_clips(config.cache.measure_clips, samples=0)
    few = pending.units is None and counts.pending + counts.done < CLIPS_PER_FIRST * least
    if pending.first is None or (few and not first_only):
        defaults = request_defaults(config, resolved, storage, measure=False)
    elif pending.first.missing() or config.dry_run:
        return _without_rest(pending) if first_only else pending
    else:  # a run that was interrupted had measured them all
        pending.first.complete()
        defaults = request_defaults(config, resolved, storage)
    # Now the profile is known, and with it the ids of all samples.
    rows = read_source(config.prompts, config.prompt_column, config.columns, defaults.conditions)
    pending = _read(config, resolved, defaults, rows, finished, storage, not_good)
    return _without_rest(pending) if first_only else pending


def _without_rest(pending: PendingInput) -> PendingInput:
    """Keep only the first clips, in the counts too."""
    counts = pending.intake.counts
    counts.pending, counts.controls, counts.lone_controls = len(pending.first_to_make), 0, 0
    pending.intake.steps.clear()
    return replace(pending, tables=[], units=None)


def _read(
    config: RunConfig,
    resolved: ResolvedModel,
    defaults: RequestDefaults,
    rows: PromptRows,
    finished: Committed,
    storage: Storage,
    not_good: Ids | None,
) -> PendingInput:
    chosen, template = defaults.chosen, defaults.template
    intake = _intake(config, defaults, rows, finished, storage, not_good)
    long_prompts = LongPrompts(local_tokenizer(resolved))
    before = chosen_before(storage, template) if chosen.is_pending else ()
    choice = None
    if chosen.is_pending:
        fixed = frozenset(content_digest(each) for each in before)
        choice = FirstChoice(len(before) or config.cache.measure_clips, template, fixed)
    unmade = [each for each in before if not storage.exists(measurement_key(each))]
    head = HeadOfInput(
        intake,
        choice,
        frozenset(map(content_digest, unmade)),
        whole=config.dry_run,
        cells=functools.partial(distinct_values, config.prompts),
    )
    found = (list(units(long_prompts.watch(some))) for some in intake.chunks())
    with frozen_objects():
        tables = pack_first(found, head.is_enough, choice, keep=not config.dry_run)
    pending = PendingInput(
        defaults,
        intake,
        tables,
        rows.notes,
        rows.size,
        long_prompts,
        units=found if head.ended_early else None,
        reopened=functools.partial(_reopened, config, defaults, finished, storage, not_good),
        why_whole=head.why_whole,
        of_sizes=head.largest,
    )
    if choice is None:
        return pending
    # Clips of an earlier choice that this input does not hold count if they have measured.
    here = {request.sample_id for request in choice.recorded()}
    elsewhere = tuple(
        each
        for each in before
        if each.sample_id not in here and storage.exists(measurement_key(each))
    )
    return _with_first(pending, choice, finished, resolved, storage, elsewhere)


def _intake(
    config: RunConfig,
    defaults: RequestDefaults,
    rows: PromptRows,
    finished: Committed,
    storage: Storage,
    not_good: Ids | None,
) -> Intake:
    own = defaults.chosen.own.requests if defaults.chosen.own else ()
    cache = defaults.template.cache
    return Intake(
        rows,
        defaults,
        finished,
        config.samples_per_prompt,
        config.limit,
        config.control_fraction,
        ConditionReader(storage, store=not config.dry_run),
        ColumnUse.of(config),
        {bytes.fromhex(replace(each, cache=cache).sample_id): each for each in own},
        not_good or Ids(),
        config.best_of,
    )


def _reopened(
    config: RunConfig,
    defaults: RequestDefaults,
    finished: Committed,
    storage: Storage,
    not_good: Ids | None,
) -> Iterator[list[Unit]]:
    """The units of the whole input, as they were when the run began."""
    rows = read_source(config.prompts, config.prompt_column, config.columns, defaults.conditions)
    intake = _intake(config, defaults, rows, finished, storage, not_good)
    return (list(units(some)) for some in intake.chunks())


def _with_first(
    pending: PendingInput,
    choice: FirstChoice,
    finished: Committed,
    resolved: ResolvedModel,
    storage: Storage,
    elsewhere: tuple[SampleRequest, ...],
) -> PendingInput:
    """Replace the chosen requests by their uncached twins, in the counts too."""
    recorded, counts = choice.recorded(), pending.intake.counts
    if not recorded and not elsewhere:
        return pending
    requests = sorted((*recorded, *elsewhere), key=lambda request: request.sample_id)
    first = FirstClips(storage, tuple(requests), resolved.spec.pipeline.prediction)
    ids = Ids.from_bytes(b"".join(bytes.fromhex(each.sample_id) for each in recorded))
    states = finished.states(ids).tolist()
    for request, state in zip(recorded, states, strict=True):
        if state and not storage.exists(measurement_key(request)):
            first.fail(request, "it failed" if state == FAILED else "it was made unrecorded")
    to_make = tuple(each for each, state in zip(recorded, states, strict=True) if not state)
    left_out = choice.left_out()
    counts.pending += len(to_make) - len(left_out)
    counts.controls -= sum(bool(each.control_of) for each in left_out)
    cached = Counter(each.num_inference_steps for each in left_out if not each.control_of)
    pending.intake.steps -= cached
    counts.done += len(recorded) - len(to_make)
    counts.done_failed += states.count(FAILED)
    return replace(pending, first=first, first_to_make=to_make)
