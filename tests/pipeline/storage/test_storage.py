"""What every storage does: in a folder, in memory, on an S3 server."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.storage.keys import TEMP_PREFIX, StoredFile
from pipeline.storage.storage import Storage, locate
from tests.pipeline.storage.faulty_s3 import failure
from tests.property_examples import examples


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Storage("s3://clips/run")
    return Storage(str(tmp_path / "run" if request.param == "local" else f"memory://{tmp_path}"))


def test_round_trip_list_and_delete(storage: Storage, tmp_path: Path) -> None:
    assert storage.list() == []
    assert storage.list("data/part-") == []
    source = tmp_path / "source.mp4"
    source.write_bytes(b"film")
    storage.put_bytes("data/part-1.parquet", b"one")
    storage.put_bytes("data/part-1.parquet", b"three")
    storage.put_bytes("data/other", b"")
    storage.put_file("media/ab/ab12.mp4", source)
    assert storage.read_bytes("data/part-1.parquet") == b"three"
    assert storage.read_bytes("media/ab/ab12.mp4") == b"film"
    everything = [
        StoredFile("data/other", 0),
        StoredFile("data/part-1.parquet", 5),
        StoredFile("media/ab/ab12.mp4", 4),
    ]
    assert storage.list() == everything
    assert storage.list("data/part-") == everything[1:2]
    assert storage.list("media") == everything[2:]
    assert storage.exists("data/other")
    assert not storage.exists("data")
    assert not storage.exists("data/part-2.parquet")
    storage.delete("data/other")
    storage.delete("data/other")
    assert not storage.exists("data/other")
    assert storage.list() == everything[1:]


def test_of_several_creators_one_wins(storage: Storage) -> None:
    assert storage.create_bytes("media/x.mp4", b"a")
    assert not storage.create_bytes("media/x.mp4", b"b")
    assert storage.read_bytes("media/x.mp4") == b"a"
    assert [entry.key for entry in storage.list()] == ["media/x.mp4"]
    storage.put_bytes("media/x.mp4", b"b")
    assert storage.read_bytes("media/x.mp4") == b"b"


def test_listing_is_fresh_after_another_writer(storage: Storage) -> None:
    storage.put_bytes("data/a", b"1")
    assert [entry.key for entry in storage.list("data/")] == ["data/a"]
    Storage(storage.uri).put_bytes("data/b", b"2")
    assert [entry.key for entry in storage.list("data/")] == ["data/a", "data/b"]
    Storage(storage.uri).delete("data/a")
    assert [entry.key for entry in storage.list("data/")] == ["data/b"]
    assert not storage.exists("data/a")


@pytest.mark.slow
def test_open_seeks_and_reads_ranges(storage: Storage) -> None:
    data = bytes(range(256)) * 9000
    storage.put_bytes("blob", data)
    with storage.open("blob") as file:
        assert file.seekable()
        file.seek(-10, os.SEEK_END)
        assert file.read() == data[-10:]
        file.seek(1_500_000)
        assert file.read(5) == data[1_500_000:1_500_005]
        assert file.tell() == 1_500_005
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize("call", ["read_bytes", "open"])
def test_missing_file_is_named(storage: Storage, call: str) -> None:
    storage.put_bytes("other", b"")
    text = failure(lambda: getattr(storage, call)("no/such"))
    assert text == f"cannot read {storage.uri}/no/such: not found"


def test_missing_source_is_the_callers_bug(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
        storage.put_file("media/x.mp4", tmp_path / "absent.mp4")


def test_pickle_leaves_connections_behind(storage: Storage) -> None:
    storage.put_bytes("a", b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert "_fs" not in vars(copy)
    assert copy.read_bytes("a") == b"1"


def test_check_writable_leaves_nothing(storage: Storage) -> None:
    storage.check_writable()
    assert storage._fs.find(storage._root) in ([], {})


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/./b", f"x/{TEMP_PREFIX}1", "a\0"]
)
def test_bad_keys_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        Storage(str(tmp_path)).put_bytes(key, b"")


@given(
    files=st.dictionaries(
        st.lists(
            st.text(
                st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cc"]),
                min_size=1,
                max_size=12,
            ).filter(lambda part: part not in (".", "..") and not part.startswith(TEMP_PREFIX)),
            min_size=2,
            max_size=2,
        ).map("/".join),
        st.binary(max_size=64),
        max_size=4,
    )
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
def test_any_key_round_trips(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("keys")))
    folders = {key.partition("/")[0] for key in files}
    for key, data in files.items():
        storage.put_bytes(key, data)
    assert {entry.key: entry.size for entry in storage.list()} == {
        key: len(data) for key, data in files.items()
    }
    assert {key: storage.read_bytes(key) for key in files} == files
    assert {entry.key for folder in folders for entry in storage.list(f"{folder}/")} == set(files)


def test_uris_are_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert Storage("out/").uri == f"{tmp_path}/out"
    assert Storage("~/out").uri == "/home/someone/out"
    assert Storage(f"file://{tmp_path}/out").uri == f"{tmp_path}/out"
    assert Storage("s3://clips/").uri == "s3://clips"
    assert failure(lambda: Storage("s3://")) == "s3://: names no place; write s3://bucket/prefix"
    assert "Protocol not known" in failure(lambda: Storage("odd://x/y").list())


def test_locate_splits_folder_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("p.csv") == (Storage(str(tmp_path)), "p.csv")
    assert locate("/p.csv") == (Storage("/"), "p.csv")
    assert locate("s3://clips/in/p.csv") == (Storage("s3://clips/in"), "p.csv")
    assert locate("s3://clips/p.csv") == (Storage("s3://clips"), "p.csv")


def test_the_root_folder_is_a_storage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert Storage("/").list(f"{tmp_path}/a".lstrip("/")) == [
        StoredFile(f"{tmp_path}/a".lstrip("/"), 1)
    ]
    assert Storage("/").read_bytes(f"{tmp_path}/a".lstrip("/")) == b"1"
    assert failure(lambda: Storage("/").read_bytes("absent")) == "cannot read /absent: not found"
