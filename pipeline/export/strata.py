"""Divides the clips of each stratum into splits in their shares, by whole texts.

The clips of one text (a prompt, or a value of an input column) stay together. The texts of one
stratum stand in a circle, in the order of the numbers that were drawn for them, and the place of a
text on it from 0 to 1 says which split it is in. Each circle is turned against the one before, so
that small strata do not all have their first text in the first split.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.export.buckets import BUCKET
from pipeline.requests.columns import cell_json
from pipeline.scoring.condition_terms import said_inputs

SPLIT, PLACE, DRAWN, STRATUM = "_split", "_place", "_drawn", "_stratum"
"""Columns beside those of the schema: number of the split, place among all rows, the number that
was drawn for the text that decides the split, and the value that makes the stratum."""

TURN = 0.6180339887498949
"""The golden ratio: turned by it again and again, places fill a circle evenly."""

_DIVIDED = f"""
create table chosen as
with grouped as (
    select {DRAWN}, count(*) as clips, list_sort(list_distinct(list({STRATUM})))::varchar as stratum
    from picked group by {DRAWN}
), placed as (
    select {DRAWN}, (
        (sum(clips) over (partition by stratum order by {DRAWN}) - clips / 2.0)
        / sum(clips) over (partition by stratum)
        + {TURN} * (dense_rank() over (order by stratum) - 1)
    ) % 1 as place
    from grouped
), divided as (
    select picked.* exclude ({STRATUM}) replace ({{number}} as {SPLIT})
    from picked join placed using ({DRAWN})
)
select * from divided order by {SPLIT}, {BUCKET}, sample_id
"""  # noqa: S608


_INPUT_COLUMNS = """
select name, count(*) as clips
from (select unnest(json_keys(source)) as name from clips where json_valid(source))
group by name order by clips desc, name
"""


def division(ends: Sequence[float]) -> str:
    """The SQL (DuckDB) that makes the table `chosen` of the table `picked`.

    A text whose clips are in several strata belongs to a stratum of its own kind.

    Args:
        ends: Where the splits end on a scale from 0 to 1, but for the last.
    """
    whens = [f"when place < {end!r} then {number}" for number, end in enumerate(ends)]
    return _DIVIDED.format(number=f"case {' '.join(whens)} else {len(ends)} end" if whens else "0")


def input_columns(database: duckdb.DuckDBPyConnection) -> list[str]:
    """Columns of the input that rows of the table `clips` keep, the most frequent first."""
    return [name for name, _ in database.execute(_INPUT_COLUMNS).fetchall()]


def check_strata(database: duckdb.DuckDBPyConnection, stratify_by: str) -> tuple[int, int]:
    """Count the rows of the table `picked`, and those without a value.

    Raises:
        UserError: There are rows, and none has a value.
    """
    query = f"select count(*), count(*) filter ({STRATUM} <> '') from picked"  # noqa: S608
    ((rows, known),) = database.execute(query).fetchall()
    if rows and not known:
        raise UserError(
            f"--stratify-by {stratify_by}: no clip has a value there; "
            f"{said_inputs(input_columns(database))}"
        )
    return rows, rows - known


def deciding(table: pa.Table, by: str) -> tuple[pa.ChunkedArray, int]:
    """The text that decides the split of each row, and for how many this is the caption."""
    captions = table["caption"]
    if not by:
        return captions, table.num_rows
    values = [cell_json(source, by) for source in table["source"].to_pylist()]
    # No caption begins so: a value never decides as a caption of the same text does.
    texts = [
        f"\0{by}\0{value}" if value else caption
        for value, caption in zip(values, captions.to_pylist(), strict=True)
    ]
    return pa.chunked_array([pa.array(texts, pa.string())]), values.count("")
