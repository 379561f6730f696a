"""Which samples of a prefix are finished, and which row of an id counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.committed import (
    CLIP_DAMAGED,
    DONE,
    FAILED,
    PENDING,
    Committed,
    Ids,
    committed,
    resolve,
)
from pipeline.dataset.parts import foreign
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.errors import StorageError
from pipeline.requests.run_settings import CONTROL
from pipeline.requests.sample_request import ID_BYTES
from pipeline.storage.storage import Storage
from tests.property_examples import examples


def sample_id(name: object) -> str:
    return hashlib.sha256(str(name).encode()).digest()[:ID_BYTES].hex()


def put(storage: Storage, part: str, rows: list[tuple[str, str]]) -> None:
    table = to_table(
        [rejected_row(i, "", "", "demo", part, "") | {"status": status} for i, status in rows]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.put_bytes(f"data/part-{part}.parquet", sink.getvalue().to_pybytes())


def holds(found: Committed, *ids: str) -> list[bool]:
    return found.contains(Ids.from_bytes(bytes.fromhex("".join(ids)))).tolist()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "out"))


def test_an_empty_prefix_holds_nothing(storage: Storage) -> None:
    found = committed(storage)
    assert len(found.ids) == 0
    assert holds(found, sample_id(1)) == [False]
    assert found.contains(Ids.from_bytes(bytes(20))).tolist() == [False, False]


def test_ids_of_all_parts_are_found(storage: Storage) -> None:
    for part in range(20):
        put(storage, f"{part:03}", [(sample_id((part, i)), "ok") for i in range(5)])
    put(storage, "x", [(sample_id("f"), "failed"), (sample_id("r"), "rejected")])
    found = committed(storage)
    assert len(found.ids) == 102
    wanted = [sample_id((part, i)) for part in range(20) for i in range(6)]
    expected = [i < 5 for _ in range(20) for i in range(6)]
    assert found.contains(Ids.from_bytes(bytes.fromhex("".join(wanted)))).tolist() == expected
    assert holds(found, sample_id("f"), sample_id("r")) == [True, True]
    asked = Ids.from_bytes(bytes.fromhex("".join(map(sample_id, ("f", "r", (0, 1), "absent")))))
    assert found.states(asked).tolist() == [FAILED, DONE, DONE, PENDING]


def test_retry_failed_leaves_failed_samples_out(storage: Storage) -> None:
    put(storage, "a", [(sample_id(1), "ok"), (sample_id(2), "failed"), (sample_id(3), "rejected")])
    found = committed(storage, retry_failed=True)
    assert holds(found, sample_id(1), sample_id(2), sample_id(3)) == [True, False, True]
    assert len(found.failed) == 0


@pytest.mark.parametrize("order", [("failed", "ok"), ("ok", "failed")])
@pytest.mark.parametrize("retry_failed", [False, True])
def test_ok_beats_failed_in_any_order(
    storage: Storage, order: tuple[str, str], retry_failed: bool
) -> None:
    for part, status in zip("ab", order, strict=True):
        put(storage, part, [(sample_id(1), status)])
    found = committed(storage, retry_failed=retry_failed)
    assert holds(found, sample_id(1)) == [True]
    assert len(found.failed) == 0


def test_resolve_keeps_one_row_per_id_in_order() -> None:
    rows = [
        ("b", "failed"),
        ("a", "ok"),
        ("b", "ok"),
        ("a", "ok"),
        ("c", "failed"),
        ("c", "failed"),
    ]
    table = pa.table(
        {
            "sample_id": [sample_id(name) for name, _ in rows],
            "status": [status for _, status in rows],
            "row": list(range(6)),
        }
    )
    assert resolve(table)["row"].to_pylist() == [1, 2, 4]
    assert resolve(table.slice(0, 0)).num_rows == 0


IDS = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
# Ids that share their first eight bytes, or end in zeros, are where shortcuts go wrong.
CLOSE = st.tuples(
    st.sampled_from([bytes(8), b"\xff" * 8, b"\x80" + bytes(7)]), st.binary(min_size=2, max_size=2)
)
ANY_ID = IDS | CLOSE.map(b"".join)


@given(
    rows=st.lists(st.tuples(ANY_ID, st.sampled_from(["ok", "failed", "rejected"])), max_size=30),
    asked=st.lists(ANY_ID, max_size=10),
)
@settings(max_examples=examples(200), deadline=None)
def test_resolve_and_contains_against_a_dictionary(
    rows: list[tuple[bytes, str]], asked: list[bytes]
) -> None:
    best: dict[bytes, int] = {}
    for i, (key, status) in enumerate(rows):
        if key not in best or (status == "ok" and rows[best[key]][1] != "ok"):
            best[key] = i
    table = pa.table(
        {
            "sample_id": pa.array([key.hex() for key, _ in rows], pa.string()),
            "status": pa.array([status for _, status in rows], pa.string()),
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )
    kept = resolve(table)
    assert kept["row"].to_pylist() == sorted(best.values())
    ids = Ids.from_bytes(b"".join(sorted(best)))
    asked += list(best)
    found = Committed(ids)
    assert found.contains(Ids.from_bytes(b"".join(asked))).tolist() == [a in best for a in asked]


def test_ids_that_end_in_zero_bytes_stay_apart(storage: Storage) -> None:
    ids = ["ab" + "00" * 9, "abcd" + "00" * 8, "00" * 10, "ff" * 8 + "0100", "ff" * 8 + "0001"]
    put(storage, "a", [(i, "ok") for i in ids])
    found = committed(storage)
    assert holds(found, *ids) == [True] * 5
    assert holds(found, "ab" + "00" * 8 + "01", "ff" * 8 + "0000", "ff" * 8 + "0101") == [False] * 3


def test_large_parts_are_read_by_ranges(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    put(storage, "a", [(sample_id(i), "ok") for i in range(100)])
    whole = committed(storage)
    monkeypatch.setattr("pipeline.dataset.parts.WHOLE_FILE_BYTES", 0)
    monkeypatch.setattr(Storage, "read_bytes", lambda *_: pytest.fail("read a large part whole"))
    ranges = committed(storage)
    assert ranges.ids.high.tolist() == whole.ids.high.tolist()
    assert ranges.ids.low.tolist() == whole.ids.low.tolist()


def test_other_files_are_no_parts(storage: Storage) -> None:
    put(storage, "a", [(sample_id(1), "ok")])
    for key in (
        "data/notes.txt",
        "data/part-a.parquet.bak",
        "data/part-x/b.parquet",
        "runs/r.json",
    ):
        storage.put_bytes(key, b"not Parquet")
    assert len(committed(storage).ids) == 1


def table_bytes(**columns: list[str | None]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1 torn",
        table_bytes(sample_id=[sample_id(1)], status=["ok"])[:-5],
        table_bytes(other=["x"]),
        table_bytes(sample_id=["short"], status=["ok"]),
        table_bytes(sample_id=["Z" * 20], status=["ok"]),
        table_bytes(sample_id=[sample_id(1), None], status=["ok", "ok"]),
        table_bytes(sample_id=[sample_id(1)], status=["done"]),
    ],
    ids=["empty", "torn", "cut", "columns", "short-id", "not-hex", "null-id", "status"],
)
def test_a_damaged_or_foreign_part_is_refused_by_name(storage: Storage, content: bytes) -> None:
    put(storage, "a", [(sample_id(1), "ok")])
    storage.put_bytes("data/part-b.parquet", content)
    with pytest.raises(StorageError) as caught:
        committed(storage)
    text = str(caught.value)
    assert text.startswith(f"{storage.uri}/data/part-b.parquet is damaged or not written by")
    assert "move it away" in text
    assert "\n" not in text


def part_of(rows: list[dict[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    blank = rejected_row("", "", "", "demo", "r", "")
    pq.write_table(to_table([blank | row for row in rows]), sink)
    return sink.getvalue().to_pybytes()


def row_of(
    name: object, status: str, text: str | None = None, error: str = ""
) -> dict[str, object]:
    return {"sample_id": sample_id(name), "status": status, "settings": text, "error_type": error}


def test_clips_are_counted_by_their_settings(storage: Storage) -> None:
    first = [row_of(1, "ok", "fast"), row_of(2, "failed", "fast"), row_of(3, "ok", "best")]
    first += [row_of(4, "ok", CONTROL), row_of(5, "ok", f"{CONTROL}, fast"), row_of(6, "ok")]
    second = [row_of(1, "ok", "best"), row_of(2, "ok", "best"), row_of(7, "ok", "fast")]
    storage.put_bytes("data/part-a.parquet", part_of(first))
    storage.put_bytes("data/part-b.parquet", part_of(second))
    assert committed(storage).settings == {"fast": 2, "best": 2, "": 1}
    assert committed(storage, retry_failed=True).settings == {"fast": 2, "best": 2, "": 1}


def test_rows_of_an_older_version_have_no_settings(storage: Storage) -> None:
    storage.put_bytes(
        "data/part-a.parquet",
        table_bytes(sample_id=[sample_id(1), sample_id(2)], status=["ok", "failed"]),
    )
    found = committed(storage)
    assert found.settings == {"": 1}
    assert holds(found, sample_id(1), sample_id(2), sample_id(3)) == [True, True, False]


def test_a_sample_whose_clip_was_lost_is_pending(storage: Storage) -> None:
    """A damaged clip alone: not an ok row of that type, and not a row that another one beats."""
    rows = [row_of(1, "failed", "x", CLIP_DAMAGED), row_of(2, "ok", "x", CLIP_DAMAGED)]
    rows += [row_of(3, "failed", "x", CLIP_DAMAGED), row_of(3, "ok", "x")]
    rows += [row_of(4, "failed", "x", "ValueError"), row_of(5, "rejected", "x", CLIP_DAMAGED)]
    storage.put_bytes("data/part-a.parquet", part_of(rows))
    found = committed(storage)
    ids = Ids.from_bytes(bytes.fromhex("".join(map(sample_id, range(1, 6)))))
    assert found.states(ids).tolist() == [PENDING, DONE, DONE, FAILED, DONE]


def test_some_samples_are_taken_out_and_others_come_in(storage: Storage) -> None:
    put(storage, "a", [(sample_id(n), "failed" if n % 2 else "ok") for n in range(6)])
    found = committed(storage)
    two = Ids.from_bytes(bytes.fromhex("".join(sorted(map(sample_id, (2, 3))))))
    less = found.without(two)
    assert holds(less, *map(sample_id, range(6))) == [True, True, False, False, True, True]
    ids = Ids.from_bytes(bytes.fromhex("".join(map(sample_id, range(6)))))
    assert less.states(ids).tolist() == [DONE, FAILED, PENDING, PENDING, DONE, FAILED]
    assert less.settings == found.settings
    more = less.including(two)
    assert holds(more, *map(sample_id, range(7))) == [True] * 6 + [False]
    assert more.states(ids).tolist() == [DONE, FAILED, DONE, DONE, DONE, FAILED]
    assert more.settings == found.settings
    assert bytes.fromhex(sample_id(2)) in more
    assert bytes.fromhex(sample_id(2)) not in less


def test_what_is_wrong_with_a_part_is_said_in_one_line(storage: Storage) -> None:
    storage.put_bytes("data/part-a.parquet", table_bytes(sample_id=["0" * 20], status=["done"]))
    with pytest.raises(StorageError) as caught:
        committed(storage)
    assert str(caught.value) == (
        f"{storage.uri}/data/part-a.parquet is damaged or not written by this pipeline: status is "
        "not one of ok, failed, rejected in every row; move it away (the next run takes its clips "
        "over from their mp4s) or choose another output"
    )


def test_what_is_lost_with_a_torn_file_is_said_by_its_place(storage: Storage) -> None:
    texts = {}
    for key in ("data/part-a.parquet", "scores/a.parquet"):
        texts[key] = str(foreign(f"s3://data/run/{key}", ValueError("torn")))
    assert "(the next run takes its clips over from their mp4s)" in texts["data/part-a.parquet"]
    assert "(it is made again)" in texts["scores/a.parquet"]


@pytest.mark.parametrize("cell", ["", "0" * 19, "0" * 22, "g" * 20, "0" * 19 + "A", None])
def test_a_cell_that_is_no_id_is_refused(cell: str | None) -> None:
    column = pa.chunked_array([pa.array(["f" * 20, cell])])
    with pytest.raises(ValueError, match=r"widths|hex digits"):
        Ids.from_hex(column)
