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
from pipeline.config.run_config import RunConfig
from pipeline.dataset import mp4
from pipeline.dataset.schema import (
    to_table,
)
from pipeline.errors import StorageError
from pipeline.export.export import RECORD_KEY, export
from pipeline.export.select import select
from pipeline.storage.storage import Storage
from pipeline.wording import called_as
from tests.pipeline.export.exported import OF_ANY_CLIP, files, sha, truth

RUN, LATER = "20260101T000000Z-000001", "20260102T000000Z-000002"
AFTER = "After that, export into a new or emptied folder: this export stays without them."


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


def lose_part(prefix: Path, copy: Path, **manifest: object) -> str:
    """Copy a prefix without one of its parts, with a manifest of its run where one is given."""
    shutil.copytree(prefix, copy)
    for part in (copy / "data").glob("part-r1-*.parquet"):
        part.rename(part.with_name(part.name.replace("r1", RUN)))
    gone = f"data/part-{RUN}-00000.parquet"
    (copy / gone).unlink()
    if manifest:
        record(copy, RUN, **manifest)
    return gone


def record(folder: Path, run_id: str, **manifest: object) -> None:
    """Write the manifest of a run that ended well."""
    (folder / "runs").mkdir(exist_ok=True)
    (folder / f"runs/{run_id}.json").write_text(json.dumps({"state": "done", **manifest}))


def test_an_export_without_a_part_of_the_rows_says_so(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, to = tmp_path / "copy", tmp_path / "to"
    settings = {"prompts": "p.jsonl", "output": "elsewhere", "cache": {"policy": "none"}}
    config = RunConfig.model_validate(settings).to_dict()
    gone = lose_part(prefix, copy, config=config, input={"columns": []})
    flags = ["--output", str(copy), "--to", str(to), "--shard-rows", "4"]
    for written in (2, 0):  # the same command again says the same
        assert main(flags) == 1
        said = capsys.readouterr()
        assert f"{written} of them written now" in " ".join(said.out.split())
        early, *last = said.err.splitlines()
        assert early.startswith(f"warning: 1 part of the rows is missing ({gone}): the command or ")
        assert last == [
            f"error: 1 part of the rows is missing ({gone}), and the export lacks its clips.",
            "To take them over from their mp4s, without making them again, run this in the folder "
            f"in which run {RUN} was started:",
            f"  {called_as('generate')} --prompts p.jsonl --output {copy} --cache.policy none",
            AFTER,
        ]
        assert json.loads((to / RECORD_KEY).read_text())["missing_parts"] == 1
    kept = files(to)

    shutil.copy(prefix / "data/part-r1-00000.parquet", copy / gone)  # as the command does
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {to} holds another export, made while 1 part of the rows was missing (its rows, "
        "filter, splits, shard size or format differ): choose a new folder as --to, or delete "
        "this one"
    )
    assert files(to) == kept
    assert main([*flags[:3], str(tmp_path / "new"), *flags[4:]]) == 0
    assert "missing_parts" not in json.loads((tmp_path / "new" / RECORD_KEY).read_text())


@pytest.mark.parametrize("manifest", [{}, {"config": {"of": "a program"}}])
def test_a_missing_part_without_a_known_command_is_of_the_command_or_program(
    prefix: Path, tmp_path: Path, manifest: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    gone = lose_part(prefix, tmp_path / "copy", **manifest)
    assert main(["--output", str(tmp_path / "copy"), "--to", str(tmp_path / "to")]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"error: 1 part of the rows is missing ({gone}), and the export lacks its clips.",
        "To take them over from their mp4s, without making them again, run the command or program "
        f"of run {RUN} again.",
        AFTER,
    ]


def test_damaged_clips_and_a_missing_part_are_both_told(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, to = tmp_path / "copy", tmp_path / "to"
    lose_part(prefix, copy)
    left = pq.read_table(copy / f"data/part-{RUN}-00001.parquet").to_pylist()
    lost = copy / next(row["video"]["path"] for row in left if row["status"] == "ok")
    data = lost.read_bytes()
    lost.unlink()
    flags = ["--output", str(copy), "--to", str(to)]
    assert main(flags) == 1
    err = capsys.readouterr().err
    assert err.index("error: 1 clip is missing or damaged") < err.index("error: 1 part of the rows")
    lost.write_bytes(data)
    assert main(flags) == 1
    assert "damaged" not in capsys.readouterr().err
    assert json.loads((to / RECORD_KEY).read_text())["missing_parts"] == 1


def test_a_part_whose_clips_were_searched_for_in_vain_is_missed_no_more(
    prefix: Path, tmp_path: Path
) -> None:
    copy, to = tmp_path / "copy", tmp_path / "to"
    lose_part(prefix, copy)
    flags = ["--output", str(copy), "--to", str(to)]
    assert main(flags) == 1
    record(copy, LATER, searched={RUN: {"lost": [0], "seen_at": ""}})
    assert main(flags) == 0
    assert "missing_parts" not in json.loads((to / RECORD_KEY).read_text())


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
