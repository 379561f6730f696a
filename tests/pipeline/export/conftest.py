"""The dataset that most tests of exports copy or read."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import mp4
from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
    to_table,
)
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.requests.controls import control_for
from pipeline.storage.storage import Storage
from tests.pipeline.export.exported import MOST_SEED, SAMPLE
from tests.pipeline.report.hostile import PROMPTS


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips with hostile captions, one control, one failed sample, in two parts."""
    folder = tmp_path_factory.mktemp("prefix")
    storage = Storage(str(folder))
    rows = []
    requests = [dataclasses.replace(SAMPLE, prompt=prompt) for prompt in PROMPTS]
    requests[-1] = dataclasses.replace(requests[-1], seed=MOST_SEED)
    for number, request in enumerate([*requests, control_for(requests[0])]):
        row = make_row(request, Provenance("r1", "cpu"), SampleOutcome("ok"))
        path = folder / row["video"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        mp4.write(np.full((3, 16, 16, 3), 20 * number, np.uint8), 8, row, path)
        data = path.read_bytes()
        rows.append(
            row | {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        )
    failed = dataclasses.replace(SAMPLE, prompt="failed")
    rows.append(make_row(failed, Provenance("r1", "cpu"), SampleOutcome("failed", "E", "m")))
    (folder / "data").mkdir()
    for number in range(2):
        pq.write_table(to_table(rows[number::2]), folder / f"data/part-r1-{number:05d}.parquet")
    write_report(storage, Prices())
    return folder
