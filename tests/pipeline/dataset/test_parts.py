import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.committed import committed
from pipeline.dataset.manifest import Manifest, all_runs
from pipeline.dataset.parts import (
    PartWriter,
    conform,
    missing_parts,
    named_parts,
    part_files,
    tell_missing,
)
from pipeline.dataset.recovery import recover
from pipeline.dataset.schema import SCHEMA, rejected_row, to_table
from pipeline.errors import StorageError
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import row


def rows(count: int, start: int = 0) -> pa.Table:
    return to_table(
        [
            rejected_row(f"{n:020x}", "c", f"f:{n}", "demo", "run", "m")
            for n in range(start, start + count)
        ]
    )


def parts(storage: Storage) -> list[pa.Table]:
    return [pq.read_table(io.BytesIO(storage.read_bytes(e.key))) for e in storage.list("data")]


def test_a_part_is_written_when_enough_rows_are_there(storage: Storage) -> None:
    sink = PartWriter(storage, "run", part_rows=3, part_seconds=1e9)
    sink.add(rows(2))
    assert parts(storage) == []
    sink.add(rows(2, start=2))
    assert [part.num_rows for part in parts(storage)] == [4]
    sink.add(rows(1, start=4))
    sink.flush()
    sink.flush()
    assert [part.num_rows for part in parts(storage)] == [4, 1]
    assert sorted(pa.concat_tables(parts(storage))["sample_id"].to_pylist()) == [
        f"{n:020x}" for n in range(5)
    ]


def test_a_part_is_written_when_the_buffer_is_old(storage: Storage) -> None:
    now = [0.0]
    sink = PartWriter(storage, "run", part_rows=100, part_seconds=30, clock=lambda: now[0])
    sink.add(rows(1))
    now[0] = 29.0
    sink.add(rows(1, start=1))
    assert parts(storage) == []
    now[0] = 31.0
    sink.add(rows(1, start=2))
    assert [part.num_rows for part in parts(storage)] == [3]


def test_parts_keep_the_schema_with_its_video_feature(storage: Storage) -> None:
    sink = PartWriter(storage, "run", part_rows=1, part_seconds=1e9)
    sink.add(rows(1).replace_schema_metadata(None))
    (part,) = parts(storage)
    assert part.schema.equals(SCHEMA)
    assert part.schema.metadata[b"huggingface"] == SCHEMA.metadata[b"huggingface"]


def test_rows_stay_when_the_store_fails(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    sink = PartWriter(Storage(str(tmp_path)), "run", part_rows=1, part_seconds=1e9)
    with pytest.raises(StorageError):
        sink.add(rows(1))
    (tmp_path / "data").unlink()
    sink.flush()
    assert [part.num_rows for part in parts(Storage(str(tmp_path)))] == [1]


def test_missing_columns_and_fields_are_unknown_and_the_rest_stays() -> None:
    now = to_table([row(0), row(1, status="failed")])
    policy = now["cache"].combine_chunks().field("policy")
    nfe = now["cache"].combine_chunks().field("nfe")
    older = now.drop(["worker", "parallel"]).set_column(
        now.column_names.index("cache"),
        "cache",
        pa.StructArray.from_arrays([nfe, policy], ["nfe", "policy"]),
    )
    found = conform(older)
    assert found.schema.equals(SCHEMA)
    assert found["worker"].to_pylist() == [None, None]
    kept = ["policy", "nfe"]
    mine, before = (t["cache"].to_pylist() for t in (found, now))
    assert [{k: c[k] for k in kept} for c in mine] == [{k: c[k] for k in kept} for c in before]
    assert [c["decisions"] for c in mine] == [None, None]
    assert found["video"].to_pylist() == now["video"].to_pylist()
    assert conform(now).equals(now)
    assert conform(now.slice(0, 0)).num_rows == 0


def test_parts_of_a_dataset_are_missed_by_the_names_that_it_recorded(storage: Storage) -> None:
    run, later, names = "20260101T000000Z-00000a", "20260101T000001Z-00000b", ["ab", "cd"]
    names = [f"{name:0>12}-00000" for name in names]
    of_another = f"data/part-{run}-abc123-0000000000ef-00000.parquet"
    for number, name in enumerate(names):
        sink = PartWriter(storage, f"{run}-{name[:12]}", part_rows=9, part_seconds=100)
        sink.add(rows(1, start=number))
        sink.flush()
    storage.put_bytes(of_another, b"")
    assert named_parts(part_files(storage), run) == names
    storage.delete(of_another)
    Manifest(run, {}, {}, named_parts=names).end(storage, "done", {})
    assert missing_parts(part_files(storage), all_runs(storage)) == {}

    key = f"data/part-{run}-{names[1]}.parquet"
    storage.delete(key)
    missing = missing_parts(part_files(storage), all_runs(storage))
    assert missing == {run: [names[1]]}
    assert f"1 part of the rows is missing ({key})" in tell_missing(missing)
    searched = recover(storage, committed(storage), all_runs(storage)).searched
    assert searched[run].get("lost") == [names[1]]
    Manifest(later, {}, {}, searched=searched).end(storage, "done", {})
    assert missing_parts(part_files(storage), all_runs(storage)) == {}
