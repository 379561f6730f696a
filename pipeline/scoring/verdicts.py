"""Which finished clips of a prefix are not good, by the condition of the run that begins now.

Their own rows may have been judged by another condition, or by none. A clip without one of the
scores that the condition needs is not judged.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.committed import Ids
from pipeline.dataset.parts import part_files
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.stored_scores import KeepChoice, read_stored
from pipeline.storage.storage import Storage


def not_good(storage: Storage, panel: ScorerPanel, recovered: pa.Table) -> Ids:
    """Judge every clip of a prefix.

    Args:
        storage: The output prefix; it may be empty.
        panel: Holds the condition.
        recovered: Rows of clips that had lost theirs, in `SCHEMA`.

    Returns:
        Sorted ids of the clips that do not meet the condition.

    Raises:
        StorageError: The prefix cannot be read.
    """
    stored = read_stored(storage).judged_by(KeepChoice(panel.keep, panel.names))
    tables = list(clip_rows(storage, stored)) if part_files(storage) else []
    tables.append(stored.over(recovered))
    ids = [
        table.filter(pc.equal(table["good"], False).fill_null(False))["sample_id"]
        for table in tables
    ]
    chunks = [chunk for each in ids for chunk in each.chunks]
    return Ids.from_hex(pa.chunked_array(chunks, pa.string())).sorted()
