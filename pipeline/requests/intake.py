"""From input rows to the requests that are still to be made.

Knows repeats and what is committed; knows neither files nor Ray. What a row may say is settled by
`pipeline.requests.from_row`; images are read by `pipeline.prompts.images`. Equal ids in the input
are one sample, made once. A row that cannot become a request is set aside with its reason, once,
and the stream goes on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.committed import FAILED, Committed, Ids
from pipeline.errors import RowRejectedError
from pipeline.prompts.images import Images
from pipeline.prompts.prompt_file import PROMPT_COLUMN, SourceRow
from pipeline.requests.controls import control_for, is_chosen
from pipeline.requests.from_row import MAX_PROMPT_CHARS, RequestDefaults, rejected_id
from pipeline.requests.pending import PendingRequest, RequestIndex
from pipeline.requests.sample_request import SampleRequest, digest

CHUNK_ROWS = 4096
"""Rows whose ids are looked up together."""

IMAGE_CHUNK_ROWS = 64
"""The same where each may hold an image in memory."""

READS_AT_ONCE = 16
"""Images read side by side: most of that time is waiting."""


@dataclass(slots=True)
class InputCounts:
    """What became of the input so far.

    Attributes:
        read: Input rows.
        rejected: Rows that cannot become samples, those recorded by earlier runs included.
        duplicates: Samples that repeat an earlier one of this input.
        done: Samples that are committed already.
        done_failed: Those of them that ended as failed rows.
        pending: Samples to make, controls included.
        controls: Those of them that are controls.
    """

    read: int = 0
    rejected: int = 0
    duplicates: int = 0
    done: int = 0
    done_failed: int = 0
    pending: int = 0
    controls: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input row that cannot become a sample, as its output row needs it.

    Attributes:
        sample_id: From its place and content, so that a resumed run knows it again.
        caption: What could be read of its text; valid Unicode.
        source_key: Where it stands, `file:row`.
        message: Why, in one line.
    """

    sample_id: str
    caption: str
    source_key: str
    message: str


@dataclass(slots=True)
class Intake:
    """Iterate once over the pending requests, in the order of the input.

    Holds the 10-byte id of every sample of the input, about 100 bytes each; `counts`, `rejected`
    and `steps` grow as it is read.

    Attributes:
        rows: The input.
        defaults: What rows inherit, and the sizes that the model can make.
        committed: What the output prefix holds.
        samples_per_prompt: Clips per row; their seeds differ.
        limit: Read only so many rows; None reads all.
        control_fraction: Share of the samples that have a control, which comes right after its
            sample where both are to be made.
        images: Takes in what a model starts from; needed for those that start from an image.
        counts: What became of the input so far.
        rejected: The rows to record as rejected; those recorded by earlier runs are left out.
        steps: How many of the pending requests have so many sampler steps.
    """

    rows: Iterable[SourceRow]
    defaults: RequestDefaults
    committed: Committed
    samples_per_prompt: int = 1
    limit: int | None = None
    control_fraction: float = 0.0
    images: Images | None = None
    counts: InputCounts = field(default_factory=InputCounts, init=False)
    rejected: list[Rejected] = field(default_factory=list, init=False)
    steps: Counter[int] = field(default_factory=Counter, init=False)
    _seen: set[bytes] = field(default_factory=set, init=False, repr=False)

    def __iter__(self) -> Iterator[SampleRequest]:
        drafts = RequestIndex(self.defaults)
        rows = itertools.islice(self.rows, self.limit)
        size = IMAGE_CHUNK_ROWS if self.defaults.takes_image else CHUNK_ROWS
        while chunk := list(itertools.islice(rows, size)):
            yield from self._pending(self._drafted(chunk, drafts))

    def _drafted(
        self, rows: Sequence[SourceRow], drafts: RequestIndex
    ) -> list[tuple[str, PendingRequest]]:
        """Source key and draft of every clip of good rows."""
        found: list[tuple[str, PendingRequest]] = []
        for row, values in zip(rows, self._with_images(rows), strict=True):
            self.counts.read += 1
            try:
                if isinstance(values, RowRejectedError):
                    raise values
                # All copies before the first is handed on: a row is made whole or rejected.
                made = drafts.of_row(values, self.samples_per_prompt)
            except RowRejectedError as error:
                self._reject(row, str(error))
                continue
            found.extend((row.key, draft) for draft in made)
        return found

    def _with_images(
        self, rows: Sequence[SourceRow]
    ) -> Iterator[Mapping[str, Any] | RowRejectedError]:
        """What each row says, its image read; or why it cannot become a request."""

        def settled(row: SourceRow) -> Mapping[str, Any] | RowRejectedError:
            if row.problem:
                return RowRejectedError(row.problem)
            if self.images is None or not self.defaults.takes_image:
                return row.values
            try:
                return self.images.resolve(row.values)
            except RowRejectedError as error:
                return error

        if not self.defaults.takes_image:
            return map(settled, rows)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            return iter(list(pool.map(settled, rows)))

    def _pending(self, drafts: Sequence[tuple[str, PendingRequest]]) -> Iterator[SampleRequest]:
        ids = Ids.from_bytes(b"".join(draft.sample_id for _, draft in drafts))
        states = self.committed.states(ids).tolist()
        for (source_key, draft), state in zip(drafts, states, strict=True):
            if draft.sample_id in self._seen:
                self.counts.duplicates += 1
                continue
            if self._is_pending(draft.sample_id, state):
                self.steps[draft.outline.base.num_inference_steps] += 1
                yield draft.request(source_key)
            if is_chosen(draft.sample_id.hex(), self.control_fraction):
                control = control_for(draft.request(source_key))
                control_id = digest(control.identity())
                state = int(self.committed.states(Ids.from_bytes(control_id))[0])
                if self._is_pending(control_id, state):
                    self.counts.controls += 1
                    yield control

    def _is_pending(self, sample_id: bytes, state: int) -> bool:
        self._seen.add(sample_id)
        if state:
            self.counts.done += 1
            self.counts.done_failed += state == FAILED
            return False
        self.counts.pending += 1
        return True

    def _reject(self, row: SourceRow, message: str) -> None:
        values = row.values
        if not self.defaults.takes_image:  # its image is as good as not there
            values = {name: value for name, value in values.items() if name != "image"}
        sample_id = rejected_id(values, row.key)
        binary = bytes.fromhex(sample_id)
        if binary in self._seen:
            self.counts.duplicates += 1
            return
        self._seen.add(binary)
        self.counts.rejected += 1
        if binary in self.committed:
            return
        prompt = row.values.get(PROMPT_COLUMN)
        caption = "" if prompt is None else str(prompt)[:MAX_PROMPT_CHARS]
        self.rejected.append(Rejected(sample_id, _unicode(caption), row.key, _unicode(message)))


def _unicode(text: str) -> str:
    """The text without lone surrogates, which no Arrow string can hold."""
    return text.encode("utf-8", "replace").decode()
