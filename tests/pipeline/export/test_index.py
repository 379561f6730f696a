"""The index holds every clip once, in the order of ids, with what is known of it by now."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.parts import PartWriter, part_files
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.export import index
from pipeline.export.index import COLUMNS, INDEX_KEY, write_index
from pipeline.scoring.stored_scores import STORED_SCHEMA
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import SAMPLE

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def motion(value: float) -> list[dict[str, Any]]:
    return [{"name": "motion", "value": value}]


def clip(number: int) -> dict[str, Any]:
    request = dataclasses.replace(SAMPLE, prompt=f"clip {number}", source='{"topic":"cats"}')
    row = make_row(request, Provenance("r1"), SampleOutcome("ok"))
    quality = {"psnr_db": 40.0 + number, "ssim": 0.9, "lpips": None}
    scores = motion(number / 10)
    cache = row["cache"] | {"nfe": number}
    return row | {
        "quality": quality,
        "scores": scores,
        "cache": cache,
        "media_sha256": f"h{number}",
    }


@pytest.mark.parametrize("bucket_rows", [2, 3, 1000])
def test_every_chosen_row_is_there_in_the_order_of_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_rows: int
) -> None:
    monkeypatch.setattr(index, "BUCKET_ROWS", bucket_rows)
    monkeypatch.setattr(index, "BATCH_ROWS", 4)
    rows, storage = [clip(number) for number in range(12)], Storage(str(tmp_path))
    parts = PartWriter(storage, "r1", part_rows=3, part_seconds=1e9)
    for row in rows:
        parts.add(to_table([row]))
    places = [(n // 3, n % 3) for n in range(12) if n != 4]
    files = part_files(storage)
    old = tmp_path / files[1].key  # of a version that knew neither scores nor source
    pq.write_table(pq.read_table(old).drop_columns(["scores", "source", "good"]), old)
    later = {"sample_id": rows[1]["sample_id"], "media_sha256": "h1", "scores": motion(9.0)}
    (tmp_path / "scores").mkdir()
    table = pa.Table.from_pylist([later | {"scorers": ["s@1"], "scored_at": NOW}], STORED_SCHEMA)
    pq.write_table(table, tmp_path / "scores/part-x.parquet")
    columns = [pa.array(column).to_numpy() for column in zip(*places, strict=True)]
    write_index(storage, files, *columns)
    found = pq.read_table(tmp_path / INDEX_KEY)
    assert found.column_names == ["file_name", *COLUMNS]
    ids = found["sample_id"].to_pylist()
    assert ids == sorted(row["sample_id"] for n, row in enumerate(rows) if n != 4)
    by_id = {row["sample_id"]: row for row in found.to_pylist()}
    for number, row in enumerate(rows):
        if number == 4:
            continue
        entry = by_id[row["sample_id"]]
        assert entry["file_name"] == row["video"]["path"]
        assert entry["cache"]["nfe"] == number
        assert entry["quality"]["psnr_db"] == 40.0 + number
        is_old = number // 3 == 1
        assert entry["source"] == (None if is_old else '{"topic":"cats"}')
        if is_old:
            assert entry["scores"] is None
        else:
            assert entry["scores"] == motion(9.0 if number == 1 else number / 10)


def test_an_index_of_nothing_has_its_columns(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    none = pa.array([], pa.int64()).to_numpy()
    write_index(storage, [], none, none)
    assert ds.dataset(tmp_path / INDEX_KEY).schema.names == ["file_name", *COLUMNS]
