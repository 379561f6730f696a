"""Files that libraries write to by path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.storage.scratch_file import scratch_file


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_scratch_file_can_be_opened_again_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not in_memory:
        monkeypatch.delattr("os.memfd_create")
    with scratch_file() as (path, contents):
        assert contents() == b""
        with Path(path).open("wb") as file:
            file.write(b"clip")
        with Path(path).open("r+b") as file:
            assert file.read() == b"clip"
            file.write(b"s")
        with Path(path).open("rb") as file:
            assert file.read() == b"clips"
        assert bool(list(tmp_path.iterdir())) is not in_memory
        assert contents() == b"clips"
    assert list(tmp_path.iterdir()) == []
    assert "scratch" not in os.path.realpath(path) or not Path(path).exists()
