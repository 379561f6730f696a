"""Why samples failed and rows were rejected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.report.document import Cause
from pipeline.report.rows import RowRoles, Rows, kinds
from pipeline.requests.reasons import kind_of

MAX_CAUSES = 50
"""Causes that are told apart; the samples of the others are counted together, by their status."""


def causes(rows: Rows, roles: RowRoles) -> list[Cause]:
    """Group failed and rejected samples by type and message of their error, the first as example.

    Messages that differ in quoted values, addresses and numbers alone are of one cause.
    """
    status_codes, statuses = rows.codes("status")
    type_codes, types = rows.codes("error_type")
    bad = np.flatnonzero(roles.failed | roles.rejected)
    columns = status_codes[bad], type_codes[bad], _message_kinds(rows, bad)
    combined, which = kinds(*columns) if len(bad) else (np.empty((0, 3), np.int64), bad)
    order = np.argsort(which, kind="stable")
    groups = np.split(bad[order], np.cumsum(np.bincount(which, minlength=len(combined)))[:-1])
    found = sorted(zip(combined.tolist(), groups, strict=False), key=lambda each: -len(each[1]))
    shown, others = found[:MAX_CAUSES], found[MAX_CAUSES:]
    rest: dict[int, list[npt.NDArray[np.int64]]] = {}
    for (status, _, _), places in others:
        rest.setdefault(status, []).append(places)
    examples = rows.whole([int(places[0]) for _, places in shown])
    attempts = rows.known("attempts")

    def cause(status: int, error_type: str, places: Any, row: dict[str, Any]) -> Cause:
        return Cause(
            status="failed" if statuses[status] == "failed" else "rejected",
            error_type=error_type,
            samples=len(places),
            attempts=int(attempts[places].sum()),
            example_id=row.get("sample_id", ""),
            example_caption=row.get("caption", ""),
            example_source=row.get("source_key", ""),
            example_message=row["error_message"],
        )

    return [
        *(cause(s, types[t], places, examples[int(places[0])]) for (s, t, _), places in shown),
        *(
            cause(s, "", np.concatenate(some), {"error_message": f"{len(some)} other causes"})
            for s, some in rest.items()
        ),
    ]


def _message_kinds(rows: Rows, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A number for the kind of each row's message."""
    messages = rows.table["error_message"].take(pa.array(places)).fill_null("")
    encoded = messages.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    numbers: dict[str, int] = {}
    of_text = [
        numbers.setdefault(kind_of(text), len(numbers)) for text in encoded.dictionary.to_pylist()
    ]
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return np.array(of_text, np.int64)[codes] if len(codes) else np.empty(0, np.int64)
