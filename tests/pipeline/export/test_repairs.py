"""What an export says of damaged and lost clips, and takes in when they are whole again."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.export import main
from pipeline.dataset import mp4
from pipeline.dataset.schema import (
    to_table,
)
from pipeline.errors import StorageError
from pipeline.export.export import export
from pipeline.export.select import select
from pipeline.storage.storage import Storage
from tests.pipeline.export.exported import OF_ANY_CLIP, files, sha, truth


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ANY_CLIP)
def test_damaged_clips_are_left_out_named_and_taken_in_when_whole(
    prefix: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, to = tmp_path / "copy", tmp_path / "to"
    shutil.copytree(prefix, copy)
    kept = sorted(path for path in copy.glob("media/*/*.mp4") if path.stem in truth(prefix))
    changed, torn, lost = kept[0], kept[3], kept[7]
    whole = {path: path.read_bytes() for path in (changed, torn, lost)}
    changed.write_bytes(whole[changed][:-1] + b"x")
    torn.write_bytes(whole[torn][:-10])
    lost.unlink()
    flags = ["--output", str(copy), "--to", str(to), "--shard-rows", "4", "--format", name]
    for _ in range(2):  # the same command again says the same
        assert main(flags) == 1
        said = capsys.readouterr()
        assert "7 clips in 3 shards" in said.out
        assert "error: 3 clips are missing or damaged" in said.err
        assert f"{changed.stem}: media/{changed.parent.name}/{changed.name} has another" in said.err
        assert "bytes instead of" in said.err
        assert f"{lost.name} is missing" in said.err
    assert set(json.loads((to / "damaged.json").read_text())) == {p.stem for p in whole}
    text = b"".join(files(to).values())
    for path, data in whole.items():
        path.write_bytes(data)
    assert main(flags) == 0
    assert not (to / "damaged.json").exists()
    assert main(["--output", str(prefix), "--to", str(tmp_path / "sound"), *flags[4:]]) == 0
    assert files(to) == files(tmp_path / "sound") != text


def made_again(folder: Path, *sample_ids: str) -> None:
    """Give clips other bytes, as a run makes them again: a file carries when it was made."""
    for part in sorted((folder / "data").glob("part-*.parquet")):
        rows = pq.read_table(part).to_pylist()
        for row in rows:
            if row["sample_id"] in sample_ids:
                path = folder / row["video"]["path"]
                row["run_id"] = f"again-{uuid.uuid4().hex}"
                mp4.write(np.full((3, 16, 16, 3), 99, np.uint8), 8, row, path)
                data = path.read_bytes()
                row |= {"media_bytes": len(data), "media_sha256": sha(data)}
        pq.write_table(to_table(rows), part)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["webdataset", *(pytest.param(n, marks=pytest.mark.variant) for n in ("hub", "fastvideo"))],
)
def test_clips_that_were_left_out_may_be_made_again_and_others_not(
    prefix: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, to = tmp_path / "copy", tmp_path / "to"
    shutil.copytree(prefix, copy)
    ids = sorted(truth(prefix))
    first, second = ids[0], ids[5]  # of the first and the second of three shards
    flags = ["--output", str(copy), "--to", str(to), "--shard-rows", "4", "--format", name]
    for sample_id in (first, second):
        (copy / f"media/{sample_id[:2]}/{sample_id}.mp4").write_bytes(b"torn")
    assert main(flags) == 1
    assert set(json.loads((to / "damaged.json").read_text())) == {first, second}
    left_out = files(to)

    made_again(copy, ids[9])  # a clip that the export holds
    assert main(flags) == 2
    assert "holds another export" in capsys.readouterr().err
    assert files(to) == left_out
    shutil.rmtree(copy / "data")
    shutil.copytree(prefix / "data", copy / "data")
    shutil.copytree(prefix / "media" / ids[9][:2], copy / "media" / ids[9][:2], dirs_exist_ok=True)
    for sample_id in {first, second} & {i for i in ids if i[:2] == ids[9][:2]}:
        (copy / f"media/{sample_id[:2]}/{sample_id}.mp4").write_bytes(b"torn")

    made_again(copy, first)
    assert main(flags) == 1
    assert "2 of them written now" in " ".join(capsys.readouterr().out.split())
    assert set(json.loads((to / "damaged.json").read_text())) == {second}
    made_again(copy, second)
    assert main(flags) == 0
    assert "1 of them written now" in " ".join(capsys.readouterr().out.split())
    assert not (to / "damaged.json").exists()
    assert main([*flags[:3], str(tmp_path / "new"), *flags[4:]]) == 0
    assert files(to) == files(tmp_path / "new") != left_out
    made_again(copy, second)  # it is in the export now
    assert main(flags) == 2


@pytest.mark.parametrize("name", OF_ANY_CLIP)
@pytest.mark.parametrize("cell", ["caption", "fps"])
def test_a_row_with_an_empty_cell_is_a_damaged_clip(
    prefix: Path, tmp_path: Path, name: str, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, part = tmp_path / "copy", "data/part-r1-00000.parquet"
    shutil.copytree(prefix, copy)
    rows = pq.read_table(copy / part).to_pylist()
    rows[0][cell] = None
    pq.write_table(to_table(rows), copy / part)
    flags = ["--output", str(copy), "--to", str(tmp_path / "to"), "--format", name]
    assert main([*flags, "--splits", "train=0.5,val=0.5"]) == 1
    said = capsys.readouterr()
    assert "9 clips in" in said.out
    assert sum(map(int, re.findall(r"(?:train|val) (\d)", said.out))) == 9
    assert f"damaged: {rows[0]['sample_id']}: its row has no {cell}" in said.err


def test_an_export_without_a_part_of_the_rows_says_so(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prefix, copy)
    gone = "data/part-r1-00000.parquet"
    (copy / gone).unlink()
    assert main(["--output", str(copy), "--to", str(tmp_path / "to")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: 1 part of the rows is missing ({gone}): the command or ")


def test_a_path_with_escapes_reaches_no_terminal(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, part = tmp_path / "copy", "data/part-r1-00000.parquet"
    shutil.copytree(prefix, copy)
    rows = pq.read_table(copy / part).to_pylist()
    rows[0]["video"]["path"] = "media/\x1b[2J.mp4"
    pq.write_table(to_table(rows), copy / part)
    assert main(["--output", str(copy), "--to", str(tmp_path / "to")]) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"media/\x1b[2J.mp4 is missing" in err


def test_a_store_that_cannot_be_read_is_no_damaged_clip(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Storage(str(prefix))
    chosen = select(source, splits={"a": 1.0}, shard_rows=5)

    def refuse(*args: object) -> bytes:
        raise StorageError("access denied") from PermissionError()

    monkeypatch.setattr(Storage, "read_bytes", refuse)
    with pytest.raises(StorageError, match="denied"):
        export(source, Storage(str(tmp_path / "to")), chosen, "webdataset")
    assert not (tmp_path / "to/damaged.json").exists()
