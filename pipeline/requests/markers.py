"""Words for a missing value: what pandas, R and databases write where nothing is.

A CSV cell has no type, and pandas stores a missing whole number as NaN in Parquet. Such a cell of
an optional column is read as empty and counted. A prompt that is such a word is rejected.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pipeline.prompts.prompt_file import NUMBER_COLUMNS, PROMPT_COLUMN, SourceRow

MARKERS = frozenset(
    {"nan", "NaN", "NAN", "null", "NULL", "Null", "None", "none", "<NA>", "N/A", "n/a", "NA"}
)


def without_markers(row: SourceRow) -> tuple[SourceRow, int]:
    """Return a row with None for each marker, and the number of markers.

    A row whose prompt is a marker has a problem instead.
    """
    if row.problem or not row.may_mark:
        return row, 0
    found = [name for name, value in row.values.items() if _is_marker(name, value)]
    if not found:
        return row, 0
    if PROMPT_COLUMN in found:
        problem = f"prompt is {row.values[PROMPT_COLUMN]!r}, a word for a missing value"
        return dataclasses.replace(row, problem=problem), 0
    return dataclasses.replace(row, values=row.values | dict.fromkeys(found)), len(found)


def _is_marker(name: str, value: Any) -> bool:
    if isinstance(value, float):
        return name in NUMBER_COLUMNS and math.isnan(value)
    return isinstance(value, str) and value in MARKERS
