"""The rows of an export on the local disk, ordered, so that none of them waits in memory.

Every part is read once. DuckDB applies the condition, sorts with a bounded amount of memory, and
gives the rows of one shard after the other back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.captioning.stored_captions import read_captions
from pipeline.dataset.committed import resolve
from pipeline.dataset.parts import conform, foreign, read_parts
from pipeline.dataset.schema import SCHEMA
from pipeline.errors import StorageError, UserError
from pipeline.export import strata
from pipeline.export.buckets import BUCKET
from pipeline.export.chosen import Chosen, LackingClips, asked_inputs, lacking_clips
from pipeline.export.strata import DRAWN, PLACE, SPLIT, STRATUM, deciding
from pipeline.prefix.needed_parts import needed_parts
from pipeline.scoring.condition_terms import problem_of
from pipeline.scoring.conditions import SOURCE_JSON, score_columns
from pipeline.scoring.stored_scores import read_stored
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

MEMORY = "512MB"
"""What DuckDB may hold; the rest is on disk."""
BATCH_ROWS = 20_000
"""Rows that are inserted at once."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a spool took in.

    Attributes:
        rows: All rows.
        by_prompt: Those whose caption decides their split.
    """

    rows: int
    by_prompt: int


class Spool:
    """Rows of a prefix; first all, then those that are chosen, ordered by split and id."""

    def __init__(self, storage: Storage, seeds: Mapping[str, int] | None = None) -> None:
        """Open an empty spool for the rows of a prefix, with the seeds of runs that gave one.

        Raises:
            UserError: The condition that is stored with the scores of the prefix is invalid.
            StorageError: The stored scores or captions cannot be read.
        """
        self._uri, self.seeds = storage.uri, seeds or {}
        self._stored, self._captions = read_stored(storage), read_captions(storage)
        self._folder = tempfile.TemporaryDirectory(prefix="export-")
        at = Path(self._folder.name)
        settings: dict[str, Any] = {"threads": 2, "memory_limit": MEMORY}
        self._database = duckdb.connect(
            str(at / "rows.db"), config={**settings, "temp_directory": str(at / "spill")}
        )
        own = ((SPLIT, pa.int32()), (DRAWN, pa.uint64()), (PLACE, pa.int64()))
        self._schema = pa.schema([*SCHEMA, *(pa.field(name, kind) for name, kind in own)])
        self._insert(self._schema.empty_table(), "create table clips as")
        # From here on the condition cannot read or write files.
        self._database.execute("set enable_external_access = false; set lock_configuration = true")
        self._heads: list[pa.Table] = []
        self._rows, self._scores = 0, list[str]()

    def close(self) -> None:
        """Delete the files."""
        self._database.close()
        self._folder.cleanup()

    def check(self, where: str) -> None:
        """Refuse a condition that is no SQL condition over the columns of a row.

        A column that is unknown yet may be the name of a score; `choose` knows these.

        Raises:
            UserError: What is wrong with it.
        """
        query = f"select 1 from {self._rows_of('true')} where ({where or 'true'})"  # noqa: S608
        try:
            self._sql(query, where)
        except UserError as error:
            if not isinstance(error.__cause__, duckdb.BinderException):
                raise

    def fill(
        self, storage: Storage, split_of: Callable[[str], tuple[int, int]], by: str = ""
    ) -> Filled:
        """Take in every row of a prefix.

        Args:
            storage: The output prefix.
            split_of: Called with the text that decides the split of a row: its caption, or its
                value in the column `by`; returns the number of the split, and the one that was
                drawn for the text.
            by: A column of the input, kept in `source`; "" splits by captions alone.

        Raises:
            UserError: The prefix holds no parts.
            StorageError: A part cannot be read or is not ours.
        """
        files = needed_parts(storage)
        waiting: list[pa.Table] = []
        count = by_prompt = 0
        for table in read_parts(storage, files, self._read):
            if waiting and not table.schema.equals(waiting[0].schema):
                by_prompt += self._take(waiting, split_of, by)
                waiting, count = [], 0
            waiting.append(table)
            count += table.num_rows
            if count >= BATCH_ROWS:
                by_prompt += self._take(waiting, split_of, by)
                waiting, count = [], 0
        by_prompt += self._take(waiting, split_of, by)
        return Filled(self._rows, by_prompt)

    def choose(
        self,
        usual: str,
        where: str,
        stratify_by: str = "",
        ends: Sequence[float] = (),
        bucket: str = "''",
        needs: str = "true",
        split_by: str = "",
    ) -> Chosen:
        """Keep the rows that count and meet all conditions, in order.

        Args:
            usual: A condition of ours.
            where: The user's condition; "" for none.
            stratify_by: An SQL value over the rows; each of its values is divided into the splits
                in their shares. "" leaves the splits as `fill` chose them.
            ends: Where the splits end on a scale from 0 to 1, but for the last; for `stratify_by`.
            bucket: SQL of ours that gives the bucket of a row.
            needs: A further condition of ours; the rows that fail it alone are counted.
            split_by: The column of the input that `fill` took, to count clips without a value.

        Raises:
            UserError: The condition `where` or the value `stratify_by` is invalid.
            StorageError: A row has no id or no status.
        """
        try:
            winners = resolve(pa.concat_tables(self._heads)).select([PLACE])
        except ValueError as error:
            raise StorageError(f"{self._uri}/data: {error}") from error
        self._heads = []
        self._database.register("winners", winners)
        counting = f"{usual} and {PLACE} in (select {PLACE} from winners)"  # noqa: S608
        text = "coalesce(source::varchar, '') as source"
        columns = ", ".join(text if name == "source" else name for name in self._schema.names)
        rows = f"from {self._rows_of(counting)} where ({where or 'true'})"
        self._sql(f"select 1 {rows} limit 0", where)
        asked = asked_inputs(where)
        found = lacking_clips(self._database, "--where", asked, f"clips where {counting}")
        lacking = f"select count(*) {rows} and not coalesce(({needs}), false)"
        ((without,),) = self.ask(lacking)
        rows += f" and coalesce(({needs}), false)"
        columns += f", {bucket} as {BUCKET}"
        if stratify_by:
            value, flag = f"coalesce(({stratify_by})::varchar, '') as {STRATUM}", "--stratify-by"
            self._sql(f"create table picked as select {columns}, {value} {rows}", stratify_by, flag)
            of, clips = strata.check_strata(self._database, stratify_by)
            if clips:
                found.append(LackingClips("--stratify-by", stratify_by, clips, of))
            self._sql(strata.division(ends), stratify_by, flag)
            self._database.execute("drop table picked")
        else:
            order = f"order by {SPLIT}, {BUCKET}, sample_id"
            self._sql(f"create table chosen as select {columns} {rows} {order}", where)
        counting = f"select count(*), count(distinct {DRAWN}) from chosen"  # noqa: S608
        ((count, texts),) = self.ask(counting)
        found += lacking_clips(self._database, "--split-by", [split_by] * bool(split_by), "chosen")
        if count:  # else the error names columns of `clips`
            self._database.execute("drop table clips")
        return Chosen(int(count), int(without), int(texts), tuple(found))

    def heads(self) -> Iterator[tuple[int, str, str, str, str, int]]:
        """Yield split, bucket, id, SHA-256 of clip and tensors, and bytes of these, in order."""
        own = "sample_id, media_sha256, ifnull(tensors.sha256, ''), ifnull(tensors.bytes, 0)"
        return self._in_order(f"{SPLIT}, {BUCKET}, {own}")

    def recaptions(self) -> Iterator[tuple[str, str]]:
        """Yield ids, and captions that were written from frames ("" for none), in order."""
        return self._in_order("sample_id, ifnull(recaption, '')")

    def _in_order(self, columns: str) -> Iterator[Any]:
        cursor = self._database.execute(f"select {columns} from chosen order by rowid")  # noqa: S608
        while some := cursor.fetchmany(BATCH_ROWS):
            yield from some

    def ask(self, query: str, given: Any = None) -> list[Any]:
        """All rows that a query of ours gives."""
        return self._database.execute(query, given).fetchall()

    def ids(self, start: int, count: int) -> list[str]:
        """Ids of a range of the chosen rows."""
        query = "select sample_id from chosen where rowid >= ? and rowid < ? order by rowid"
        return [row[0] for row in self.ask(query, [start, start + count])]

    def rows(self, start: int, count: int) -> list[dict[str, Any]]:
        """A range of the chosen rows, as plain values."""
        query: Any = self._database.sql(
            f"select * exclude ({SPLIT}, {DRAWN}, {PLACE}, {BUCKET}) from chosen "  # noqa: S608
            "where rowid >= ? and rowid < ? order by rowid",
            params=[start, start + count],
        )
        return list(query.to_arrow_table().cast(SCHEMA).to_pylist())

    def _rows_of(self, condition: str) -> str:
        """The rows that meet a condition as a subquery, with each score under its own name."""
        names = self.ask(
            "select distinct each.name from (select unnest(scores) as each from clips)"
        )
        own = sorted(name for (name,) in names if name not in self._schema.names)
        self._scores = [name for name in own if name.isidentifier()]
        scores = score_columns(self._scores)
        return f"(select * replace ({SOURCE_JSON}){scores} from clips where {condition})"  # noqa: S608

    def _read(self, file: Any, part: StoredFile) -> pa.Table:
        try:
            parquet = pq.ParquetFile(file)
            # Of `video` only the path: a part may carry its media inline.
            names = ["video.path" if n == "video" else n for n in parquet.schema_arrow.names]
            table = parquet.read(columns=names, use_threads=False)
            return table.select([name for name in table.column_names if name in SCHEMA.names])
        except (pa.ArrowException, KeyError) as error:
            raise foreign(f"{self._uri}/{part.key}", error) from error

    def _take(
        self, tables: Sequence[pa.Table], split_of: Callable[[str], tuple[int, int]], by: str
    ) -> int:
        """Insert rows; return how many of them are split by their caption."""
        if not tables:
            return 0
        try:
            # In one piece: DuckDB holds memory for every chunk of every column.
            whole = pa.concat_tables(tables).combine_chunks()
            table = conform(whole.replace_schema_metadata(None))
        except (pa.ArrowException, ValueError) as error:
            raise foreign(f"{self._uri}/data: a part", error) from error
        table = self._captions.over(self._stored.over(table))
        decides, by_prompt = deciding(table, by)
        # A row without a caption is damaged: the export names it, so it must be in some split.
        texts = decides.fill_null("").combine_chunks().dictionary_encode()
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        found = [split_of(text) for text in texts.dictionary.to_pylist()]
        splits = pa.array([split for split, _ in found], pa.int32()).take(texts.indices)
        drawn = pa.array([number for _, number in found], pa.uint64()).take(texts.indices)
        places = pa.array(np.arange(self._rows, self._rows + table.num_rows))
        self._rows += table.num_rows
        self._heads.append(table.select(["sample_id", "status"]).append_column(PLACE, places))
        for name, column in ((SPLIT, splits), (DRAWN, drawn), (PLACE, places)):
            table = table.append_column(name, column)
        self._insert(table.cast(self._schema), "insert into clips")
        return by_prompt

    def _insert(self, table: pa.Table, into: str) -> None:
        self._database.register("batch", table)
        try:
            self._database.execute(f"{into} select * from batch")  # noqa: S608
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise self._no_room(error) from None
        self._database.unregister("batch")

    def inputs(self) -> list[str]:
        """Columns of the input that rows keep in `source`, the most frequent first."""
        return strata.input_columns(self._database)

    def _no_room(self, error: Exception) -> StorageError:
        text = str(error).split("\n")[0]
        return StorageError(f"cannot sort rows in {self._folder.name}: {text}")

    def _sql(self, query: str, given: str, flag: str = "--where") -> None:
        try:
            self._database.execute(query)
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise self._no_room(error) from None
        except duckdb.Error as error:
            problem = problem_of(error, self._scores, inputs=self.inputs())
            raise UserError(f"{flag} {given}: {problem}") from error
