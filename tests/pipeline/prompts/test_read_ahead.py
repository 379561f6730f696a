"""Small files of a folder are read before their turn, a few at once and in order."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StorageError
from pipeline.prompts.read_ahead import FILES_AHEAD, FILES_AT_ONCE
from pipeline.prompts.reader import read_source
from pipeline.storage.storage import Storage

FILES = 3 * FILES_AHEAD
WAIT_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(FILES):
        table = pa.table({"prompt": [f"{number} a", f"{number} b"]})
        pq.write_table(table, tmp_path / f"{number:03}.parquet")
    return tmp_path


def test_the_rows_keep_their_order_and_few_files_wait(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, read = threading.Barrier(FILES_AT_ONCE), itertools.count()
    begun: list[str] = []
    kept = Storage.read_bytes

    def read_bytes(storage: Storage, key: str) -> bytes:
        begun.append(key)
        if next(read) < FILES_AT_ONCE:
            together.wait(WAIT_S)  # breaks if they are read one after another
        return kept(storage, key)

    monkeypatch.setattr(Storage, "read_bytes", read_bytes)
    found = []
    for row in read_source(str(folder)):
        found.append(row.values["prompt"])
        assert len(begun) <= (len(found) + 1) // 2 + FILES_AHEAD
    assert found == [f"{number} {name}" for number in range(FILES) for name in "ab"]
    assert sorted(begun) == [f"{number:03}.parquet" for number in range(FILES)]


def test_an_error_comes_in_its_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Storage.read_bytes

    def read_bytes(storage: Storage, key: str) -> bytes:
        if key == "002.parquet":
            raise StorageError("gone")
        return kept(storage, key)

    monkeypatch.setattr(Storage, "read_bytes", read_bytes)
    rows = read_source(str(folder))
    assert [row.key for row in itertools.islice(rows, 4)][-1] == "001.parquet:2"
    with pytest.raises(StorageError, match="gone"):
        next(rows)
