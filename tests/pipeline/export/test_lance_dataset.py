"""Lance datasets give back rows, clips and tensors; without the library the format is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from jobs.export import main
from pipeline.errors import UserError
from pipeline.export.lance_dataset import check_lance
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import FakeEngine
from tests.pipeline.tensors.test_tensor_file import commit, made, tensors_of


def test_without_the_library_the_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'sencache-pipeline\[lance\]'"):
        check_lance()


@pytest.mark.slow
def test_a_lance_dataset_holds_rows_clips_and_tensors(tmp_path: Path, capsys: Any) -> None:
    import lance

    storage = Storage(str(tmp_path / "out"))
    rows = [*made(storage, "a", "bb", "ccc"), *made(storage, "d", engine=FakeEngine())]
    commit(storage, rows)
    flags = ["--output", storage.uri, "--to", str(tmp_path / "to"), "--format", "lance"]
    flags += ["--shard-rows", "2", "--bucket-by", "length"]

    def found() -> dict[str, tuple[bytes, bytes | None, str]]:
        table = lance.dataset(str(tmp_path / "to/train.lance")).to_table().to_pylist()
        return {
            each["caption"]: (each["video"], each["safetensors"], each["sample_id"])
            for each in table
        }

    wanted = {
        row["caption"]: (
            storage.read_bytes(row["video"]["path"]),
            tensors_of(row["caption"]) if row["tensors"] else None,
            row["sample_id"],
        )
        for row in rows
    }
    assert main(flags) == 0
    assert found() == wanted
    capsys.readouterr()
    assert main(flags) == 0
    assert "0 of them written now" in " ".join(capsys.readouterr().out.split())
    assert found() == wanted

    # A damaged clip is left out, and taken in when it is whole again.
    path = rows[0]["video"]["path"]
    whole = storage.read_bytes(path)
    storage.put_bytes(path, whole[:-1])
    (tmp_path / "to/fragments").rename(tmp_path / "gone")
    assert main(flags) == 1
    assert found().keys() == wanted.keys() - {"a"}
    storage.put_bytes(path, whole)
    assert main(flags) == 0
    assert found() == wanted
