"""The database in which a selection is sorted."""

from __future__ import annotations

import uuid
from typing import Any

import duckdb
import pytest

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts
from pipeline.errors import StorageError
from pipeline.export.spool import Spool
from pipeline.storage.storage import Storage


@pytest.mark.slow
def test_rows_of_thousands_of_small_parts_fit_into_the_memory_of_the_database() -> None:
    (table,) = synthetic_parts(9_000, 9_000)
    spool = Spool(Storage(f"memory://{uuid.uuid4().hex}"))
    try:
        spool._take([table.slice(at, 3) for at in range(0, 9_000, 3)], lambda text: (0, 0), "")
        assert spool.choose("true", "").clips == 9_000
    finally:
        spool.close()


def test_a_database_without_room_is_told_in_one_line() -> None:
    (table,) = synthetic_parts(10, 10)
    spool = Spool(Storage(f"memory://{uuid.uuid4().hex}"))
    database = spool._database

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

        def execute(self, query: str) -> None:
            raise duckdb.OutOfMemoryException("Out of Memory Error: no block\n\nSolutions: ...")

    spool._database = Full()  # type: ignore[assignment]
    with pytest.raises(
        StorageError, match=r"cannot sort rows in \S+: Out of Memory Error: no block$"
    ):
        spool._take([table], lambda text: (0, 0), "")
    spool.close()
