"""Turns input rows into the requests that are still to be made.

It drops samples that are committed and samples that repeat an earlier one of the input. A row that
cannot become a request is recorded once with its reason, and the stream goes on. What a row may set
is checked in `pipeline.requests.from_row`; their files are read in
`pipeline.prompts.condition_reader`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.candidates.drafts import candidates_of
from pipeline.dataset.committed import DONE, FAILED, PENDING, Committed, Ids
from pipeline.errors import RowRejectedError
from pipeline.prompts.condition_reader import ConditionReader, values_of
from pipeline.prompts.prompt_file import PROMPT_COLUMN, SourceRow
from pipeline.prompts.reader import PromptRows
from pipeline.prompts.row_batch import RowBatch
from pipeline.requests.columns import ColumnUse, source_json
from pipeline.requests.controls import control_for, is_chosen
from pipeline.requests.from_row import RequestDefaults, rejected_id
from pipeline.requests.lazy_request import LazyRequest, LazyRequests
from pipeline.requests.markers import without_markers
from pipeline.requests.reasons import InputCounts, Reasons, RejectedRow, valid_unicode
from pipeline.requests.row_values import MAX_PROMPT_CHARS
from pipeline.requests.sample_request import SampleRequest, digest
from pipeline.requests.seeds import next_try
from pipeline.streaming.id_set import IdSet
from pipeline.streaming.plain_rows import (
    BatchSamples,
    PlainRows,
    ReadRows,
    no_plain,
    plain_among,
    plain_rows,
)

CHUNK_ROWS = 4096
"""Rows whose ids are looked up at once."""

FILE_CHUNK_ROWS = 64
"""The same for rows that may each hold whole files in memory."""


@dataclass(slots=True)
class Intake:
    """Iterate once over the pending requests, in the order of the input.

    It keeps the id of every sample, 12 to 25 bytes each. `counts` and `rejected` grow meanwhile.

    Attributes:
        rows: The input.
        defaults: What rows inherit, and the sizes that the model can make.
        committed: What the output prefix holds.
        samples_per_prompt: Clips per row; their seeds differ.
        limit: Rows to read; None reads all.
        control_fraction: Share of the samples that have a control; it comes after its sample.
        files: Reads what clips start from; needed for models that take conditions.
        not_good: Sorted ids of finished clips that another try should replace.
        best_of: Drafts per clip. A clip is finished if that of any draft's seed is.
        first: By the id of a cached clip, the uncached one of the run's profile in its place.
        columns: Decides which columns of the input set something, and counts them.
        counts: What became of the input so far.
        rejected: Rejected rows that no earlier run has recorded.
        steps: Number of pending requests by their steps.
        largest: One of the pending requests with most pixels in all their frames.
        reasons: Why rows are rejected.
        accepted: Samples of the rows that were read, without controls, duplicates included.
        handled: Those of them that it has decided about; it decides while requests are taken.
    """

    rows: Iterable[SourceRow]
    defaults: RequestDefaults
    committed: Committed
    samples_per_prompt: int = 1
    limit: int | None = None
    control_fraction: float = 0.0
    files: ConditionReader | None = None
    columns: ColumnUse = field(default_factory=ColumnUse)
    first: Mapping[bytes, SampleRequest] = field(default_factory=dict)
    not_good: Ids = field(default_factory=Ids)
    best_of: int = 1
    counts: InputCounts = field(default_factory=InputCounts, init=False)
    rejected: list[RejectedRow] = field(default_factory=list, init=False)
    steps: Counter[int] = field(default_factory=Counter, init=False)
    largest: SampleRequest | None = field(default=None, init=False)
    reasons: Reasons = field(default_factory=Reasons, init=False)
    accepted: int = field(default=0, init=False)
    handled: int = field(default=0, init=False)
    _repeats: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _seen: IdSet = field(default_factory=IdSet, init=False, repr=False)
    _fresh: set[bytes] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        self.counts.columns = self.columns.others

    def __iter__(self) -> Iterator[SampleRequest]:
        return itertools.chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[SampleRequest]]:
        """Yield the pending requests of the next rows."""
        size = FILE_CHUNK_ROWS if self.defaults.conditions else CHUNK_ROWS
        requests = LazyRequests(self.defaults)
        for chunk in self._rows_at_once(max(1, size // self.samples_per_prompt)):
            pending = list(self._pending(chunk, requests))
            for request in pending:
                if self.largest is None or request.pixels > self.largest.pixels:
                    self.largest = request
            yield pending

    def _rows_at_once(self, size: int) -> Iterator[RowBatch | list[SourceRow]]:
        if isinstance(self.rows, PromptRows):
            yield from self.rows.chunks(size, self.limit)
            return
        rows = itertools.islice(self.rows, self.limit)
        yield from iter(lambda: list(itertools.islice(rows, size)), [])

    def _read(self, row: SourceRow) -> SourceRow:
        """Return the row with only what may set something."""
        row, markers = without_markers(row)
        self.counts.markers += markers
        return self.columns.apply(row)

    def known(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which of some samples the input that was read so far holds, itself or as controls."""
        return self._seen.find(ids) | Ids.of(self._fresh).sorted().find(ids)

    def _lazy_requests(
        self, read: Iterable[SourceRow], requests: LazyRequests
    ) -> Iterator[tuple[SourceRow, list[LazyRequest]]]:
        """Yield each row with the requests of its clips, none if it is rejected."""
        rows = list(read)
        found = values_of(rows, self.defaults.conditions, self.files)
        for row, values in zip(rows, found, strict=True):
            self.counts.read += 1
            made: list[LazyRequest] = []
            try:
                if isinstance(values, RowRejectedError):
                    raise values
                # All copies at once, so that a row is accepted or rejected as a whole.
                made = requests.of_row(values, self.samples_per_prompt)
                base, default = made[0].template.base, self.defaults.template.negative_prompt
                self.counts.add_negative(values.get("negative_prompt"), base, default)
            except RowRejectedError as error:
                self._reject(row, str(error))
            self.accepted += len(made)
            yield row, made

    def _pending(
        self, chunk: RowBatch | list[SourceRow], requests: LazyRequests
    ) -> Iterator[SampleRequest]:
        copies = self.samples_per_prompt
        if isinstance(chunk, RowBatch) and self._skips_done():
            plain = plain_rows(chunk, requests, self.columns, copies)
            if plain is not None:
                return self._pending_of(chunk, plain, requests)
        rows = ReadRows([self._read(row) for row in chunk])
        some = plain_among(rows, requests, copies) if self._skips_done() else no_plain(copies)
        return self._pending_of(rows, some, requests)

    def _skips_done(self) -> bool:
        """Whether nothing is to be done about a plain row whose clips are finished."""
        return self.best_of == 1 and not self.not_good

    def _pending_of(
        self, batch: RowBatch | ReadRows, plain: PlainRows, requests: LazyRequests
    ) -> Iterator[SampleRequest]:
        self.counts.read += len(plain.places)
        self.accepted += len(plain.ids)

        def made(rows: list[SourceRow]) -> Iterator[tuple[SourceRow, list[LazyRequest]]]:
            is_read = isinstance(batch, ReadRows)
            return self._lazy_requests(rows if is_read else map(self._read, rows), requests)

        samples = BatchSamples.of(batch, plain, made)
        ids = samples.ids()
        states, is_known = self._looked_up(ids)
        matters = (states == PENDING) | Ids.of(self.first).sorted().find(ids)
        matters |= samples.have_controls(self.control_fraction)
        is_taken = samples.is_odd | (matters & ~is_known)
        self.handled += int(np.count_nonzero(~is_taken))
        self.counts.duplicates += int(np.count_nonzero(~is_taken & is_known))
        self.counts.done += int(np.count_nonzero(~is_taken & ~is_known))
        failed = ~is_taken & ~is_known & (states == FAILED)
        self.counts.done_failed += int(np.count_nonzero(failed))
        taken = samples.take(is_taken, self.columns, requests)
        states, is_known = states[is_taken], is_known[is_taken]
        for each, state, known in zip(taken, states.tolist(), is_known.tolist(), strict=True):
            yield from self._decided(*each, state, known)

    def _looked_up(self, ids: Ids) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """The state of each sample of a chunk, and whether it repeats an earlier one."""
        self._seen.add(Ids.of(self._fresh))
        self._fresh.clear()
        is_known = self._seen.find(ids) | ~ids.first()
        self._seen.add(ids.take(~is_known))
        return self.committed.states(ids), is_known

    def _decided(
        self, row: SourceRow, request: LazyRequest, state: int, is_known: bool
    ) -> Iterator[SampleRequest]:
        """Yield the requests that a sample stands for and that are still to be made."""
        self.handled += 1
        if is_known or request.sample_id in self._fresh:
            self.counts.duplicates += 1
            return
        if (first := self.first.get(request.sample_id)) is not None:
            self._fresh.add(request.sample_id)
            state = int(self.committed.states(Ids.from_bytes(digest(first.identity())))[0])
            if self._is_pending(digest(first.identity()), state):
                yield dataclasses.replace(first, source_key=row.key)
            return
        if self.best_of > 1:
            state = self._state_of_candidates(request)
        if is_pending := self._is_pending(request.sample_id, state):
            self.steps[request.template.base.num_inference_steps] += 1
            yield request.build(row.key, self.columns.source(row))
        elif self.not_good and (further := self._further_try(row, request)) is not None:
            self.counts.redraws += 1
            self.steps[further.num_inference_steps] += 1
            yield further
        if self.control_fraction and is_chosen(request.content(), self.control_fraction):
            clip = request.build(row.key, source_json(row.other)[0])
            if self.best_of > 1 and not is_pending:
                clip = self._candidate(clip)[0]  # its control has that seed too
            control, is_lone = control_for(clip), state == DONE
            if state == FAILED:
                control = dataclasses.replace(control, sample_cache=None)
            control_id = digest(control.identity())
            state = int(self.committed.states(Ids.from_bytes(control_id))[0])
            self.counts.done_controls += state != PENDING
            if self._is_pending(control_id, state):
                self.counts.controls += 1
                self.counts.lone_controls += is_lone
                yield control

    def _further_try(self, row: SourceRow, request: LazyRequest) -> SampleRequest | None:
        """The first try at a clip that is still to be made; None if one is good or all are made."""
        made: SampleRequest | None = request.build(row.key, self.columns.source(row))
        while made is not None:
            own = Ids.from_bytes(digest(made.identity()))
            if not self.not_good.find(own)[0]:
                return None
            made = next_try(made)
            if made is None or self._is_pending(
                sample_id := digest(made.identity()),
                int(self.committed.states(Ids.from_bytes(sample_id))[0]),
            ):
                return made
        return None

    def _state_of_candidates(self, request: LazyRequest) -> int:
        """The state of a clip that is chosen by drafts: that of the seed that was chosen."""
        return self._candidate(request.build(""))[1]

    def _candidate(self, request: SampleRequest) -> tuple[SampleRequest, int]:
        """The request of the seed that was chosen by drafts, and its state."""
        candidates = candidates_of(request, self.best_of)
        ids = Ids.of(digest(each.identity()) for each in candidates)
        states = self.committed.states(ids).tolist()
        found = next((state for state in (DONE, FAILED) if state in states), PENDING)
        return (candidates[states.index(found)] if found else request), found

    def _is_pending(self, sample_id: bytes, state: int) -> bool:
        self._fresh.add(sample_id)
        if state:
            self.counts.done += 1
            self.counts.done_failed += state == FAILED
            return False
        self.counts.pending += 1
        return True

    def _is_recorded(self, sample_id: bytes) -> bool:
        """Whether an earlier run has recorded a rejected row."""
        return sample_id in self.committed

    def _reject(self, row: SourceRow, message: str) -> None:
        values = row.values
        content = rejected_id(values)
        repeat = self._repeats[content]
        self._repeats[content] += 1
        sample_id = rejected_id(values, repeat) if repeat else content
        self.counts.rejected += 1
        self.reasons.add(message, row.key)
        if self._is_recorded(bytes.fromhex(sample_id)):
            return
        prompt = row.values.get(PROMPT_COLUMN)
        caption = "" if prompt is None else str(prompt)[:MAX_PROMPT_CHARS]
        source = self.columns.source(row)
        self.rejected.append(
            RejectedRow(sample_id, valid_unicode(caption), row.key, valid_unicode(message), source)
        )
