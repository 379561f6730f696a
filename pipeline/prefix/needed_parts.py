"""The Parquet parts of a prefix, for commands that are of no use without rows."""

from __future__ import annotations

from pipeline.dataset.manifest import all_runs
from pipeline.dataset.parts import missing_parts, part_files, tell_missing
from pipeline.errors import UserError
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage


def needed_parts(storage: Storage) -> list[StoredFile]:
    """The parts of a prefix; at least one.

    Raises:
        UserError: There is none, because no run wrote any or because all are lost.
        StorageError: The prefix cannot be listed, or the record of a run is damaged.
    """
    files = part_files(storage)
    if not files:
        lost = missing_parts(files, all_runs(storage))
        hint = tell_missing(lost) if lost else "run a job first"
        raise UserError(f"{storage.uri}: holds no data/part-*.parquet; {hint}")
    return files
