"""Tables that another version wrote, in today's `SCHEMA`: columns it did not have are unknown."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.schema import SCHEMA


def conform(table: pa.Table) -> pa.Table:
    """The same rows in `SCHEMA`; nulls where a column or a field of a struct is not there.

    Raises:
        ValueError: A column has values that its type here cannot hold (pyarrow's ArrowInvalid).
    """
    columns = [
        _conform(table[field.name].combine_chunks(), field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _conform(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if not pa.types.is_struct(kind) or column.type == kind:
        return column.cast(kind)
    there = {field.name for field in column.type}
    children = [
        pc.struct_field(column, field.name).cast(field.type)
        if field.name in there
        else pa.nulls(len(column), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=column.is_null())
