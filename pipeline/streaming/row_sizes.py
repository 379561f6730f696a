"""The largest clip of an input whose rows set sizes, without reading its prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import RowRejectedError
from pipeline.prompts.prompt_file import PROMPT_COLUMN, SourceRow
from pipeline.requests.columns import ColumnUse
from pipeline.requests.from_row import RequestDefaults, checked_fields
from pipeline.requests.markers import without_markers
from pipeline.requests.sample_request import SampleRequest

SIZES = ("width", "height", "num_frames")
"""Columns by which one row needs more memory than another."""


def largest_of(
    cells: Iterable[Mapping[str, Any]],
    found: SampleRequest,
    defaults: RequestDefaults,
    columns: ColumnUse,
) -> SampleRequest:
    """Return a request of the largest size that rows ask for and the model can make.

    Rows whose clips are done count like the others.

    Args:
        cells: Values of the columns `SIZES`, each combination once.
        found: The largest request so far.
        defaults: What rows inherit.
        columns: Says which columns set something.
    """
    for values in cells:
        row, _ = without_markers(SourceRow("", {PROMPT_COLUMN: "-", **values}, may_mark=True))
        try:
            fields = checked_fields(columns.without_overruled(row).values, defaults)
        except RowRejectedError:
            continue
        base = defaults.template
        size = {name: fields.get(name, getattr(base, name)) for name in SIZES}
        larger = defaults.settled(dataclasses.replace(found, **size))
        found = max(found, larger, key=lambda request: request.pixels)
    return found
