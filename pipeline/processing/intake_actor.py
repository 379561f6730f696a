"""The first stage: prompt rows in, packed requests out, beside rows that are final already.

One actor does it for the whole Dataset, because only it sees which rows repeat an earlier one. It
holds 12 to 25 bytes for each row that it has seen, and no rows. A row that cannot become a request
becomes an output row with its error. Rows that the output prefix holds are read from it: the same
program gives the same rows again and makes only what is missing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import PENDING, committed
from pipeline.dataset.schema import SCHEMA, rejected_row, to_table
from pipeline.models.spec import ModelSpec
from pipeline.process import begin_actor
from pipeline.processing.prefix_notes import say_prefix
from pipeline.processing.stored_rows import StoredRows
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.prompt_file import SourceRow, WantedColumns, find_prompt_column, source_row
from pipeline.prompts.reader import read_source
from pipeline.requests.columns import ColumnUse
from pipeline.requests.controls import pack, units
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import FILE_CHUNK_ROWS, Intake
from pipeline.requests.lazy_request import LazyRequest
from pipeline.requests.packing import REQUEST_COLUMN
from pipeline.requests.sample_request import digest
from pipeline.storage.storage import Storage

FINAL_COLUMN = "final"
"""Rows that are final already, many in one cell, as an Arrow stream; null beside a request."""
STORED_COLUMN = "stored"
"""Added to output rows: whether the output prefix holds a row already."""
URI_COLUMN = "uri"
"""The column of the Dataset of one row that stands for a source of prompts."""

ROWS_AT_ONCE = 1024
"""Prompt rows that become one block of requests."""

PLACE = "dataset"
"""What stands for the file in the source keys of a Dataset's rows."""

UNITS = pa.schema([(REQUEST_COLUMN, pa.string()), (FINAL_COLUMN, pa.large_binary())])
FINAL_ROWS = pa.schema([*SCHEMA, pa.field(STORED_COLUMN, pa.bool_())])


class IntakeActor:
    """Turns blocks of prompt rows into blocks of packed requests and final rows."""

    def __init__(
        self,
        config: RunConfig,
        defaults: RequestDefaults,
        storage: Storage,
        run_id: str,
        spec: ModelSpec,
    ) -> None:
        """Read which samples the output prefix holds.

        Args:
            config: The settings.
            defaults: What rows inherit.
            storage: The output prefix.
            run_id: Goes into rows of rejected prompts.
            spec: The model.

        Raises:
            StorageError: The prefix cannot be read.
        """
        begin_actor()
        self._config, self._defaults, self._run_id = config, defaults, run_id
        finished = committed(storage, retry_failed=config.retry_failed, save=config.save)
        self._stored = StoredRows(storage)
        self._intake = StreamedIntake(
            (),
            defaults,
            finished,
            config.samples_per_prompt,
            control_fraction=config.control_fraction,
            files=ConditionReader(storage),
            columns=ColumnUse.of(config),
            best_of=config.best_of,
        )
        taken = frozenset(each.column for each in defaults.conditions)
        self._wanted = WantedColumns(config.prompt_column, frozenset(config.columns), taken)
        self._rows_before = 0
        known, counts = self._intake.known, self._intake.counts
        self._say_prefix: Callable[[], None] | None = functools.partial(
            say_prefix, storage, run_id, config, defaults, spec, finished, known, counts
        )

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield units of requests and final rows, in the columns of `UNITS`.

        Args:
            batch: Prompt rows; or one row that names a source of prompts in `URI_COLUMN`.

        Raises:
            UserError: No column holds the prompts, or a source cannot be read.
        """
        rows = iter(self._rows(batch))
        size = FILE_CHUNK_ROWS if self._defaults.conditions else ROWS_AT_ONCE
        while chunk := list(itertools.islice(rows, size)):
            found = self._units(chunk)
            if self._say_prefix is not None:  # now that the first rows are known
                self._say_prefix()
                self._say_prefix = None
            yield found

    def _rows(self, batch: pa.Table) -> Iterable[SourceRow]:
        if batch.column_names == [URI_COLUMN]:
            (uri,) = batch[URI_COLUMN].to_pylist()
            rows = read_source(
                uri, self._config.prompt_column, self._config.columns, self._defaults.conditions
            )
            return itertools.islice(rows, self._config.limit)
        column = find_prompt_column(PLACE, self._wanted, batch.column_names)
        first, self._rows_before = self._rows_before + 1, self._rows_before + batch.num_rows
        return (
            source_row(f"{PLACE}:{number}", values, column, self._wanted)
            for number, values in enumerate(batch.to_pylist(), first)
        )

    def _units(self, rows: list[SourceRow]) -> pa.Table:
        intake = self._intake
        intake.rows = rows
        texts = [pack(unit) for unit in units(intake)]
        rejected = [
            rejected_row(
                row.sample_id,
                row.caption,
                row.source_key,
                self._defaults.template.model,
                self._run_id,
                row.message,
                row.source,
            )
            for row in intake.rejected
        ]
        known = self._stored.rows(intake.found)
        intake.rejected.clear()
        intake.found.clear()
        finals = [
            _parcel(table, stored=stored)
            for table, stored in ((to_table(rejected), False), (known, True))
            if table.num_rows
        ]
        return pa.table(
            {
                REQUEST_COLUMN: [*texts, *[""] * len(finals)],
                FINAL_COLUMN: [*[None] * len(texts), *finals],
            },
            UNITS,
        )


@dataclass(slots=True)
class StreamedIntake(Intake):
    """An intake that also names the samples of its rows that the output prefix holds.

    Attributes:
        found: Their binary ids.
    """

    found: list[bytes] = field(default_factory=list, init=False)
    _chosen: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False)

    # The methods name the base class, because `super()` fails in a dataclass with slots.

    def _skips_done(self) -> bool:
        return False  # the rows of finished clips are passed on

    def _is_pending(self, sample_id: bytes, state: int) -> bool:
        is_pending = Intake._is_pending(self, sample_id, state)
        if not is_pending:
            self.found.append(self._chosen.pop(sample_id, sample_id))
        return is_pending

    def _state_of_candidates(self, request: LazyRequest) -> int:
        chosen, state = self._candidate(request.build(""))
        if state != PENDING:
            self._chosen[request.sample_id] = digest(chosen.identity())
        return state

    def _is_recorded(self, sample_id: bytes) -> bool:
        is_recorded = Intake._is_recorded(self, sample_id)
        if is_recorded:
            self.found.append(sample_id)
        return is_recorded


def with_stored(rows: pa.Table, stored: bool) -> pa.Table:
    """Output rows in `FINAL_ROWS`."""
    column = pa.repeat(pa.scalar(stored), rows.num_rows)
    return pa.Table.from_arrays([*rows.cast(SCHEMA).columns, column], schema=FINAL_ROWS)


def opened(parcel: bytes) -> pa.Table:
    """The rows of a cell of `FINAL_COLUMN`, in `FINAL_ROWS`."""
    return pa.ipc.open_stream(parcel).read_all()


def _parcel(rows: pa.Table, *, stored: bool) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, FINAL_ROWS) as writer:
        writer.write_table(with_stored(rows, stored))
    return sink.getvalue().to_pybytes()
