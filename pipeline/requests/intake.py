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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.candidates.drafts import candidates_of
from pipeline.dataset.committed import DONE, FAILED, PENDING, Committed, Ids
from pipeline.errors import RowRejectedError
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.prompt_file import PROMPT_COLUMN, SourceRow
from pipeline.requests.columns import ColumnUse, source_json
from pipeline.requests.controls import control_for, is_chosen
from pipeline.requests.from_row import RequestDefaults, rejected_id
from pipeline.requests.lazy_request import LazyRequest, LazyRequests
from pipeline.requests.markers import without_markers
from pipeline.requests.reasons import Reasons, RejectedRow
from pipeline.requests.row_values import MAX_PROMPT_CHARS
from pipeline.requests.sample_request import SampleRequest, digest
from pipeline.requests.seeds import next_try
from pipeline.streaming.id_set import IdSet

CHUNK_ROWS = 4096
"""Rows whose ids are looked up at once."""

FILE_CHUNK_ROWS = 64
"""The same for rows that may each hold whole files in memory."""

READS_AT_ONCE = 16
"""Rows whose files are read in parallel; most of that time is waiting."""


@dataclass(slots=True)
class InputCounts:
    """What became of the input so far.

    Attributes:
        read: Input rows.
        rejected: Rows that cannot become samples, also those that earlier runs recorded.
        duplicates: Samples that repeat an earlier one of this input.
        done: Samples that are already committed.
        done_failed: Those of `done` that ended as failed rows.
        pending: Samples to make, also controls.
        controls: Those of `pending` that are controls.
        redraws: Those of `pending` that are further tries at clips that are not good.
        lone_controls: Those of `controls` whose clip is committed already. Nothing can be compared
            with them, because clips are compared before they are encoded.
        unread_negatives: Rows whose negative prompt is left out, because their guidance is off.
        markers: Cells such as `nan` that were read as empty.
    """

    read: int = 0
    rejected: int = 0
    duplicates: int = 0
    done: int = 0
    done_failed: int = 0
    pending: int = 0
    controls: int = 0
    redraws: int = 0
    lone_controls: int = 0
    unread_negatives: int = 0
    markers: int = 0


@dataclass(slots=True)
class Intake:
    """Iterate once over the pending requests, in the order of the input.

    It keeps the id of every sample of the input, 12 to 25 bytes each. `counts`, `rejected` and
    `steps` grow while the input is read.

    Attributes:
        rows: The input.
        defaults: What rows inherit, and the sizes that the model can make.
        committed: What the output prefix holds.
        samples_per_prompt: Clips per row; their seeds differ.
        limit: Rows to read; None reads all.
        control_fraction: Share of the samples that have a control. A control comes right after its
            sample if both are still to be made.
        files: Reads what clips start from; needed for models that take conditions.
        not_good: Sorted ids of finished clips that another try should replace.
        best_of: Drafts per clip. A clip is finished if that of any draft's seed is.
        first: By the id of the cached clip, the uncached one that stands for it because the run's
            profile rests on it. It has no control.
        columns: Decides which columns of the input set something, and counts them.
        counts: What became of the input so far.
        rejected: Rejected rows that no earlier run has recorded.
        steps: Number of pending requests by their sampler steps.
        largest: One of the pending requests with most pixels in all their frames.
        reasons: Why rows are rejected, earlier recorded ones included.
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

    def __iter__(self) -> Iterator[SampleRequest]:
        requests = LazyRequests(self.defaults)
        rows = itertools.islice(self.rows, self.limit)
        size = FILE_CHUNK_ROWS if self.defaults.conditions else CHUNK_ROWS
        size = max(1, size // self.samples_per_prompt)
        while chunk := [self._read(row) for row in itertools.islice(rows, size)]:
            for request in self._pending(self._lazy_requests(chunk, requests)):
                if self.largest is None or request.pixels > self.largest.pixels:
                    self.largest = request
                yield request

    def _read(self, row: SourceRow) -> SourceRow:
        """Return the row with only what may set something."""
        row, markers = without_markers(row)
        self.counts.markers += markers
        return self.columns.apply(row)

    def knows(self, sample_id: str) -> bool:
        """Whether the input that was read so far holds a sample or its control."""
        binary = bytes.fromhex(sample_id)
        return binary in self._fresh or bool(self._seen.find(Ids.from_bytes(binary))[0])

    def _lazy_requests(
        self, rows: Sequence[SourceRow], requests: LazyRequests
    ) -> list[tuple[SourceRow, LazyRequest]]:
        """Return row and request of every clip of the valid rows."""
        found: list[tuple[SourceRow, LazyRequest]] = []
        for row, values in zip(rows, self._with_files(rows), strict=True):
            self.counts.read += 1
            try:
                if isinstance(values, RowRejectedError):
                    raise values
                # All copies at once, so that a row is accepted or rejected as a whole.
                made = requests.of_row(values, self.samples_per_prompt)
            except RowRejectedError as error:
                self._reject(row, str(error))
                continue
            if values.get("negative_prompt") and not made[0].template.base.negative_prompt:
                self.counts.unread_negatives += 1
            found.extend((row, request) for request in made)
        self.accepted += len(found)
        return found

    def _with_files(
        self, rows: Sequence[SourceRow]
    ) -> Iterator[Mapping[str, Any] | RowRejectedError]:
        """Yield the values of each row with its files read, or the reason why it is rejected."""

        def resolved(row: SourceRow) -> Mapping[str, Any] | RowRejectedError:
            if row.problem:
                return RowRejectedError(row.problem)
            if self.files is None:
                return row.values
            try:
                return self.files.resolve(row.values, self.defaults.conditions, row.folder)
            except RowRejectedError as error:
                return error

        if not self.defaults.conditions:
            return map(resolved, rows)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            return iter(list(pool.map(resolved, rows)))

    def _pending(
        self, requests: Sequence[tuple[SourceRow, LazyRequest]]
    ) -> Iterator[SampleRequest]:
        ids = Ids.from_bytes(b"".join(request.sample_id for _, request in requests))
        states = self.committed.states(ids).tolist()
        self._seen.add(Ids.from_bytes(b"".join(self._fresh)))
        self._fresh.clear()
        before = self._seen.find(ids).tolist()
        for (row, request), state, is_known in zip(requests, states, before, strict=True):
            self.handled += 1
            if is_known or request.sample_id in self._fresh:
                self.counts.duplicates += 1
                continue
            if (first := self.first.get(request.sample_id)) is not None:
                self._fresh.add(request.sample_id)
                state = int(self.committed.states(Ids.from_bytes(digest(first.identity())))[0])
                if self._is_pending(digest(first.identity()), state):
                    yield dataclasses.replace(first, source_key=row.key)
                continue
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
                    clip = self._finished_candidate(clip)
                control = control_for(clip)
                control_id = digest(control.identity())
                state = int(self.committed.states(Ids.from_bytes(control_id))[0])
                if self._is_pending(control_id, state):
                    self.counts.controls += 1
                    self.counts.lone_controls += not is_pending
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
        candidates = candidates_of(request.build(""), self.best_of)
        ids = Ids.from_bytes(b"".join(digest(each.identity()) for each in candidates))
        states = self.committed.states(ids).tolist()
        return next((state for state in (DONE, FAILED) if state in states), PENDING)

    def _finished_candidate(self, request: SampleRequest) -> SampleRequest:
        """The request of the seed that was chosen by drafts; its control has that seed too."""
        candidates = candidates_of(request, self.best_of)
        ids = Ids.from_bytes(b"".join(digest(each.identity()) for each in candidates))
        states = self.committed.states(ids).tolist()
        return next((candidates[states.index(s)] for s in (DONE, FAILED) if s in states), request)

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
            RejectedRow(sample_id, _unicode(caption), row.key, _unicode(message), source)
        )


def _unicode(text: str) -> str:
    """Return the text without lone surrogates, which no Arrow string can hold."""
    return text.encode("utf-8", "replace").decode()
