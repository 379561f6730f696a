"""Storage in a folder: atomic writes and disk errors."""

from __future__ import annotations

import errno
import os
import resource
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.storage.keys import TEMP_PREFIX, StoredFile
from pipeline.storage.storage import Storage
from tests.pipeline.storage.faulty_s3 import failure


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "run"))
    storage.put_bytes("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        text = failure(lambda: storage.put_bytes("a", b"n" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert text.endswith("/run/a: the file is larger than this file system or user limit allows")
    assert storage.read_bytes("a") == b"old"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left: free some"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied: choose a folder"),
        (errno.EDQUOT, "disk quota is used up"),
    ],
)
def test_permanent_local_faults_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    calls = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fsync)
    storage = Storage(str(tmp_path))
    assert words in failure(lambda: storage.put_bytes("a", b"1"))
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_transient_local_fault_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, faults = os.fsync, deque([errno.ESTALE, errno.EAGAIN])

    def fsync(handle: int) -> None:
        if faults:
            raise OSError(faults.popleft(), "told to")
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("pipeline.storage.retries.BACKOFF_S", 0.001)
    storage = Storage(str(tmp_path))
    storage.put_bytes("a", b"1")
    assert storage.list() == [StoredFile("a", 1)]


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage(str(tmp_path / "file"))
    for call in (storage.check_writable, storage.list, lambda: storage.read_bytes("x")):
        assert "a part of the path is a file, not a folder" in failure(call)
    assert not storage.exists("x")
    folder = Storage(str(tmp_path))
    assert "this is a folder, not a file" in failure(lambda: folder.read_bytes("."))


def test_unfinished_writes_of_a_dead_process_are_not_listed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.put_bytes("data/a", b"1")
    (tmp_path / "data" / f"{TEMP_PREFIX}dead").write_bytes(b"half")
    assert storage.list() == [StoredFile("data/a", 1)]


def test_creators_at_the_same_time(tmp_path: Path) -> None:
    storages = [Storage(str(tmp_path / "run")) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for key in map(str, range(20)):
            won = list(
                pool.map(
                    lambda n, key=key: storages[n].create_bytes(key, bytes([n]) * 1000), range(8)
                )
            )
            assert sum(won) == 1
            assert storages[0].read_bytes(key) == bytes([won.index(True)]) * 1000


def test_a_folder_without_hard_links_creates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr("os.link", refuse)
    storage = Storage(str(tmp_path / "run"))
    assert storage.create_bytes("x", b"a")
    assert not storage.create_bytes("x", b"a")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["x"]
    assert not storage.check_writable().conditional


def test_a_folder_keeps_conditions(tmp_path: Path) -> None:
    assert Storage(str(tmp_path)).check_writable().conditional
    assert list(tmp_path.iterdir()) == []
