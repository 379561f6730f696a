"""Packs the requests of a run into tables for Ray, and chooses the clips that it makes first.

The first clips are made without a cache and recorded, so that the rest of the run has a profile of
its own (`pipeline.calibration.measurement`). Which clips these are depends on their content alone:
an interrupted run that starts again chooses the same ones. Of an input that is read while clips are
made, they are chosen among its first rows.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.requests.controls import content_digest, pack, units
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

REQUEST_COLUMN = "request"
"""The one column of the tables: a request, alone or with its control (`pack`).

A single string column keeps the schema of all blocks equal, whatever the input rows leave out.
"""

BLOCK_ROWS = 1000
"""Requests per Arrow table handed to Ray, which cuts them into tasks of one engine call each."""

BLOCK_S = 1.0
"""Seconds after which a smaller table goes to Ray, where few of many rows are left to make."""

ALIKE = (
    *("num_inference_steps", "guidance_scale", "guidance_scale_2"),
    *("width", "height", "num_frames", "fps"),
)
"""Settings that a row may change and that the first clips share with the run's defaults."""


FEWEST_FIRST, MOST_FIRST, SAMPLES_PER_FIRST = 4, 16, 25
"""First clips of a run that does not say how many: one for so many samples, within bounds.

Plans from 4 clips differ with the clips, those from 16 less; see BENCHMARKS.md."""


def first_clips(asked: int | None, samples: int) -> int:
    """How many first clips a run makes.

    Args:
        asked: As the user wants it; None leaves it to the size of the run.
        samples: Samples that the run has to make.
    """
    if asked is not None:
        return asked
    return min(max(samples // SAMPLES_PER_FIRST, FEWEST_FIRST), MOST_FIRST)


@dataclass
class FirstChoice:
    """Chooses the requests of the first clips while all requests pass by.

    What is chosen is known once all have passed.

    Attributes:
        asked: Clips to choose; None: by the number of requests (`first_clips`).
        template: The run's defaults; only clips with its settings are chosen.
        fixed: Contents of the clips that an earlier run chose; only these are chosen then.
    """

    asked: int | None
    template: SampleRequest
    fixed: frozenset[bytes] = frozenset()
    _found: list[tuple[bytes, int, list[SampleRequest]]] = field(default_factory=list, init=False)
    _offered: int = field(default=0, init=False)

    def offer(self, unit: list[SampleRequest], place: int) -> None:
        """Consider the unit at a place of the input."""
        request = unit[0]
        self._offered += 1
        if any(getattr(request, name) != getattr(self.template, name) for name in ALIKE):
            return
        entry = (content_digest(request), place, unit)
        if self.fixed and entry[0] not in self.fixed:
            return
        most = MOST_FIRST if self.asked is None else self.asked
        if len(self._found) < most or entry[:2] < self._found[-1][:2]:
            bisect.insort(self._found, entry, key=lambda each: each[:2])
            del self._found[most:]

    def is_ready(self, wanted: frozenset[bytes]) -> bool:
        """Whether enough units have passed for a choice, and clips with some contents among them.

        Args:
            wanted: Contents of clips that an earlier run chose and did not make.
        """
        least = max(MOST_FIRST * SAMPLES_PER_FIRST, 2 * (self.asked or 0))
        is_enough = bool(self.fixed) or self._offered >= least
        return is_enough and wanted <= {content for content, _, _ in self._found}

    def _chosen(self) -> list[tuple[bytes, int, list[SampleRequest]]]:
        return self._found[: first_clips(self.asked, self._offered)]

    def places(self) -> set[int]:
        """Places of the chosen requests."""
        return {place for _, place, _ in self._chosen()}

    def left_out(self) -> list[SampleRequest]:
        """The chosen requests and their controls, as they would have been made."""
        return [request for _, _, unit in self._chosen() for request in unit]

    def recorded(self) -> list[SampleRequest]:
        """The chosen requests as they are made: without a cache, and recorded, by their ids."""
        made = [recorded_twin(unit[0]) for _, _, unit in self._chosen()]
        return sorted(made, key=lambda request: request.sample_id)


def recorded_twin(request: SampleRequest) -> SampleRequest:
    """Return a request for the same clip without a cache, recorded."""
    return replace(request, cache=CacheIdentity(), records=True)


def pack_tables(
    requests: Iterable[SampleRequest], choice: FirstChoice | None = None
) -> list[pa.Table]:
    """Pack requests, each sample together with its control.

    Args:
        requests: In the order of the input.
        choice: Looks at each sample. Those that it chooses, and their controls, are left out.

    Returns:
        Tables of up to `BLOCK_ROWS` units.
    """
    return pack_first(iter([list(units(requests))]), lambda units_so_far: False, choice)


def pack_first(
    found: Iterator[Sequence[list[SampleRequest]]],
    enough: Callable[[int], bool],
    choice: FirstChoice | None = None,
    *,
    keep: bool = True,
) -> list[pa.Table]:
    """Pack the first units of an iterator, which goes on after the last of them.

    Args:
        found: Units (`pipeline.requests.controls.units`), those of some rows at once; there may be
            none of these.
        enough: Asked after each of its items, with how many units there are, whether it is the
            last.
        choice: As for `pack_tables`.
        keep: Whether to return the tables; a dry run only looks.

    Returns:
        Tables of up to `BLOCK_ROWS` units.
    """
    tables: list[pa.Table] = []
    block: list[str] = []
    place = 0
    for some in found:
        for unit in some:
            if len(block) == BLOCK_ROWS:
                tables.append(pa.table({REQUEST_COLUMN: block}))
                block = []
            if keep:
                block.append(pack(unit))
            if choice is not None and not unit[0].control_of:
                choice.offer(unit, place)
            place += 1
        if enough(place):
            break
    if block:
        tables.append(pa.table({REQUEST_COLUMN: block}))
    for place in choice.places() if choice and keep else ():
        index, row = divmod(place, BLOCK_ROWS)
        # Marked first and left out at the end, so that places stay what they are.
        texts = tables[index][REQUEST_COLUMN].to_pylist()
        texts[row] = ""
        tables[index] = pa.table({REQUEST_COLUMN: texts})
    return [left for table in tables if (left := _without_marked(table)).num_rows]


def pack_rest(
    found: Iterable[Sequence[list[SampleRequest]]], clock: Callable[[], float] = time.monotonic
) -> Iterator[pa.Table | None]:
    """Pack units as they are asked for, in tables of up to `BLOCK_ROWS`.

    Args:
        found: Units, those of some rows at once; there may be none of these.
        clock: Monotonic seconds.

    Yields:
        Tables; and None after rows that fill none, so that a reader of many rows that are done can
        look about.
    """
    block: list[str] = []
    began = clock()
    for some in found:
        for unit in some:
            block.append(pack(unit))
            if len(block) == BLOCK_ROWS:
                yield pa.table({REQUEST_COLUMN: block})
                block, began = [], clock()
        if block and clock() >= began + BLOCK_S:
            yield pa.table({REQUEST_COLUMN: block})
            block, began = [], clock()
        yield None
    if block:
        yield pa.table({REQUEST_COLUMN: block})


def with_first(tables: Sequence[pa.Table], first: Sequence[SampleRequest]) -> list[pa.Table]:
    """Put the first clips in front of all other requests.

    Ray Data starts tasks in order, and a task without a first clip waits for the profile, so none
    may come before them. They are not spread over the tasks: a group that waits takes some of them
    over, and every task of others is full, so that its engine calls are.

    Args:
        tables: The other requests.
        first: The first clips.
    """
    head = [pa.table({REQUEST_COLUMN: [pack([request]) for request in first]})] if first else []
    return [*head, *tables]


def _without_marked(table: pa.Table) -> pa.Table:
    return table.filter(pc.not_equal(table[REQUEST_COLUMN], ""))
