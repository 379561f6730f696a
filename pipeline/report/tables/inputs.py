"""Columns of the input that clips keep."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from pipeline.report.rows import Mask, Rows


def kept(rows: Rows, clips: Mask) -> dict[str, int]:
    """Count the clips that have a value in each further column of the input, the most first."""
    codes, values = rows.codes("kept")
    counts: Counter[str] = Counter()
    for text, count in zip(values, np.bincount(codes[clips], minlength=len(values)), strict=True):
        counts.update({name: int(count) for name in json.loads(text or "[]") if count})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
