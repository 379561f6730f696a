"""What became of the input: counts, rejected rows, and the most frequent causes of these."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.requests.sample_request import SampleRequest

MAX_CAUSES = 1000
"""Causes that are kept apart; rows with a further one are counted as others."""

_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\S*://\S*|\d[\d.,]*")
"""What differs between two messages of one cause: quoted values, addresses and numbers."""


def kind_of(message: str) -> str:
    """A message without what is particular to a row: messages of one cause are equal then."""
    return _PARTICULAR.sub("…", message)


@dataclass(slots=True)
class InputCounts:
    """What became of the input so far.

    Attributes:
        read: Input rows.
        rejected: Rows that cannot become samples, also those that earlier runs recorded.
        duplicates: Samples that repeat an earlier one of this input.
        done: Samples that are already committed.
        done_failed: Those of `done` that ended as failed rows.
        done_controls: Those of `done` that are controls.
        pending: Samples to make, also controls.
        controls: Those of `pending` that are controls.
        redraws: Those of `pending` that are further tries at clips that are not good.
        lone_controls: Those of `controls` whose clip is committed already. It is made again in
            memory to be compared, because clips are compared before they are encoded.
        unread_negatives: Rows whose negative prompt is left out, because their guidance is off.
        empty_negatives: Rows whose empty negative prompt replaces the default one.
        markers: Cells such as `nan` that were read as empty.
        columns: Columns that rows keep in `source`, or would if their clips were not finished.
    """

    read: int = 0
    rejected: int = 0
    duplicates: int = 0
    done: int = 0
    done_failed: int = 0
    done_controls: int = 0
    pending: int = 0
    controls: int = 0
    redraws: int = 0
    lone_controls: int = 0
    unread_negatives: int = 0
    empty_negatives: int = 0
    markers: int = 0
    columns: list[str] = field(default_factory=list)

    def add_negative(self, given: str | None, made: SampleRequest, default: str) -> None:
        """Count what became of the negative prompt of a row.

        Args:
            given: As the row has it.
            made: What the row became.
            default: What rows take that have none.
        """
        if given:
            self.unread_negatives += not made.negative_prompt
        elif given == "" and made.guidance_scale > 1.0:  # nothing reads one otherwise
            self.empty_negatives += bool(default)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """An input row that cannot become a sample, with what its output row needs.

    Attributes:
        sample_id: Made from its content, so that a resumed run recognises it wherever it stands.
        caption: What could be read of its prompt; valid Unicode.
        source_key: Its place, `file:row`.
        message: The reason, in one line.
        source: JSON of its other columns, "" without any.
    """

    sample_id: str
    caption: str
    source_key: str
    message: str
    source: str = ""


@dataclass(slots=True)
class RejectionCause:
    """Rows that are rejected for one cause.

    Attributes:
        rows: How many.
        message: Of the first of them.
        place: Of the first of them, `file:row`.
    """

    rows: int
    message: str
    place: str


@dataclass(slots=True)
class Reasons:
    """The causes so far, by their messages without what is particular to a row."""

    causes: dict[str, RejectionCause] = field(default_factory=dict)

    def add(self, message: str, place: str) -> None:
        """Count a rejected row."""
        kind = kind_of(message)
        if kind not in self.causes and len(self.causes) >= MAX_CAUSES:
            kind, message = "", "other reasons"
        cause = self.causes.setdefault(kind, RejectionCause(0, message, place))
        cause.rows += 1

    def top(self, count: int) -> list[RejectionCause]:
        """Return the most frequent causes, the first of the input first among equal ones."""
        return sorted(self.causes.values(), key=lambda cause: -cause.rows)[:count]

    @property
    def rows(self) -> int:
        """All rejected rows."""
        return sum(cause.rows for cause in self.causes.values())


def valid_unicode(text: str) -> str:
    """Return the text without lone surrogates, which no Arrow string can hold."""
    return text.encode("utf-8", "replace").decode()
