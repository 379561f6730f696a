"""Why samples failed and rows were rejected."""

from __future__ import annotations

import numpy as np

from pipeline.report.document import Cause
from pipeline.report.rows import RowRoles, Rows, kinds

MAX_CAUSES = 50


def causes(rows: Rows, roles: RowRoles) -> list[Cause]:
    """Group failed and rejected samples by the type of their error, with the first as example."""
    status_codes, statuses = rows.codes("status")
    type_codes, types = rows.codes("error_type")
    bad = np.flatnonzero(roles.failed | roles.rejected)
    combined, which = kinds(status_codes[bad], type_codes[bad])
    groups = [(kind, bad[which == index]) for index, kind in enumerate(combined)]
    groups.sort(key=lambda group: -len(group[1]))
    examples = rows.whole([int(places[0]) for _, places in groups[:MAX_CAUSES]])
    attempts = rows.known("attempts")
    found = []
    for kind, places in groups[:MAX_CAUSES]:
        row = examples[int(places[0])]
        status = statuses[kind[0]]
        found.append(
            Cause(
                status="failed" if status == "failed" else "rejected",
                error_type=types[kind[1]],
                samples=len(places),
                attempts=int(attempts[places].sum()),
                example_id=row["sample_id"],
                example_caption=row["caption"],
                example_source=row["source_key"],
                example_message=row["error_message"],
            )
        )
    return found
