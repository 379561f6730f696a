"""What is left of a run will cost, by what the clips of its prefix have cost so far."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.committed import PART
from pipeline.errors import StorageError
from pipeline.storage.storage import Storage

LATEST_PARTS = 20
"""So many are read: settings may have changed since the first clips."""


@dataclass(frozen=True, slots=True)
class Projection:
    """An estimate for clips that are still to be made.

    Attributes:
        clips: How many.
        device_s: Device seconds of one, failed attempts apart; None where nothing is known.
        measured: Earlier clips that this is the mean of.
    """

    clips: int
    device_s: float | None
    measured: int

    @property
    def total_s(self) -> float:
        """Device seconds of all; 0 where nothing is known."""
        return self.clips * (self.device_s or 0.0)


def project(storage: Storage, clips: int) -> Projection:
    """Estimate from the latest parts of a prefix.

    Raises:
        StorageError: They cannot be read.
    """
    keys = [entry.key for entry in storage.list("data/part-") if PART.fullmatch(entry.key)]
    seconds: list[float] = []
    for key in sorted(keys)[-LATEST_PARTS:]:
        try:
            file = pq.ParquetFile(BytesIO(storage.read_bytes(key)))
            table = file.read(["status", "gpu_s"], use_threads=False)
        except (pa.ArrowException, KeyError) as error:
            raise StorageError(f"{storage.uri}/{key} is damaged: {error}") from error
        seconds += table.filter(pc.equal(table["status"], "ok"))["gpu_s"].to_pylist()
    return Projection(clips, sum(seconds) / len(seconds) if seconds else None, len(seconds))
