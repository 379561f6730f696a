"""Buckets of clips that a trainer can put into one batch: of one size, shape or length.

The bucket of a clip is a text that is part of the names of its shards, as `832x480_81f`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from pipeline.errors import UserError

BUCKET = "_bucket"
"""Column beside those of the schema: the bucket of a row, "" without buckets."""

RATIOS = ((9, 21), (9, 16), (2, 3), (3, 4), (1, 1), (4, 3), (3, 2), (16, 9), (21, 9))
"""Shapes of frames; that of a clip is the nearest one by the logarithm of width over height."""


def _aspect() -> str:
    """SQL that gives the shape of a row's frames, as `16-9`."""
    whens = []
    for (wide, high), (next_wide, next_high) in itertools.pairwise(RATIOS):
        end = math.sqrt(wide / high * next_wide / next_high)
        whens.append(f"when width / height < {end!r} then '{wide}-{high}'")
    wide, high = RATIOS[-1]
    return f"case {' '.join(whens)} else '{wide}-{high}' end"


KEYS: Mapping[str, str] = {
    "resolution": "width || 'x' || height",
    "aspect": _aspect(),
    "length": "num_frames || 'f'",
}
"""What clips can be put into buckets by, and the SQL (DuckDB) of its text."""


def bucket_sql(bucket_by: str) -> str:
    """SQL that gives the bucket of a row.

    Args:
        bucket_by: Names of `KEYS`, separated by commas; "" puts all clips into one bucket.

    Raises:
        UserError: There is no such name.
    """
    if not bucket_by:
        return "''"
    names = [name.strip() for name in bucket_by.split(",")]
    for name in names:
        if name not in KEYS:
            raise UserError(f"--bucket-by {bucket_by}: should be some of {', '.join(KEYS)}")
    text = " || '_' || ".join(f"({KEYS[name]})" for name in dict.fromkeys(names))
    return f"coalesce({text}, 'unknown')"  # a damaged row, which the export names
