"""Writes the rows that there are when a signal comes, before the cluster is stopped.

Stopping can take half a minute, and a node may be taken away in that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline.dataset.manifest import Manifest
from pipeline.dataset.parts import PartWriter
from pipeline.errors import StorageError
from pipeline.interrupt import STOPPED, stopping_first, uninterrupted
from pipeline.monitoring.totals import RunTotals
from pipeline.storage.storage import Storage


@dataclass(slots=True)
class CommitFirst:
    """Commits a run that is stopped.

    Attributes:
        parts: Holds its rows.
        manifest: Of the run.
        storage: The output prefix.
        totals: Of its rows so far.
    """

    parts: PartWriter
    manifest: Manifest
    storage: Storage
    totals: RunTotals

    def while_waiting(self, made: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The same tables; a signal that comes while the next one is awaited commits at once."""
        while True:
            with stopping_first(self._now):
                table = next(made, None)
            if table is None:
                return
            yield table

    @contextmanager
    def first(self) -> Iterator[None]:
        """Commit if the block is stopped."""
        try:
            yield
        except STOPPED:
            self._now()
            raise

    def _now(self) -> None:
        with (
            uninterrupted(),
            suppress(StorageError),
        ):  # the run writes again, and says so
            self.parts.flush()
            self.manifest.parts = self.parts.written
            self.manifest.end(self.storage, "interrupted", asdict(self.totals))
