"""An export never replaces files of somebody else, and goes on in a target of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.export import main
from pipeline.errors import UserError
from pipeline.export.export import RECORD_KEY, export
from pipeline.export.formats import FORMATS
from pipeline.export.select import select
from pipeline.storage.storage import Storage
from tests.pipeline.export.exported import OF_ANY_CLIP, files

FOREIGN = [
    ("hub", "README.md"),
    ("hub", "data/train-00000-of-00001.parquet"),
    ("hub", "data/train-of-mine.parquet"),  # the card would take it in
    ("webdataset", "train-00000.tar"),
    ("webdataset", "train-16x16_3f-00007.tar"),
    ("webdataset", "shards.json"),
    ("webdataset", "damaged.json"),
    ("fastvideo", "train/videos2caption.json"),
    ("fastvideo", "train/videos/cat.mp4"),
    ("fastvideo-latents", "train/00000-of-00001.parquet"),
    ("fastvideo-latents", "train/16x16/00000-of-00001.parquet"),
    ("fastvideo-trajectories", "train/00000-of-00001.parquet"),
    ("lance", "fragments/train-00000-of-00001.json"),
    ("lance", "train.lance/_versions/1.manifest"),
]


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


@pytest.mark.parametrize(("name", "key"), FOREIGN)
def test_a_file_of_somebody_else_is_refused_before_anything_is_written(
    prefix: Path, tmp_path: Path, name: str, key: str
) -> None:
    put(tmp_path, key)
    source, target = Storage(str(prefix)), Storage(str(tmp_path))
    said = "which no export has written .*: choose an empty folder .* as --to, or move it away"
    with (
        select(source, splits={"train": 1.0}) as chosen,
        pytest.raises(UserError, match=rf" holds {key}, {said}"),
    ):
        export(source, target, chosen, name)
    assert files(tmp_path) == {key: b"mine"}


def test_the_command_says_so_in_one_line_with_code_2(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["README.md", *(f"data/train-{n:05d}-of-00005.parquet" for n in range(5))]
    put(tmp_path, *names)
    assert main(["--output", str(prefix), "--to", str(tmp_path), "--format", "hub"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {tmp_path} holds README.md, {names[1]}, {names[2]} and 3 more files, which no "
        "export has written and this one would replace or mix with its own: choose an empty "
        "folder or prefix as --to, or move them away"
    )
    assert files(tmp_path) == dict.fromkeys(names, b"mine")


@pytest.mark.parametrize("name", OF_ANY_CLIP)
def test_files_of_other_names_stay_and_are_no_obstacle(
    prefix: Path, tmp_path: Path, name: str
) -> None:
    others = ["notes.txt", "val-00000.tar", "old/README.md", "old/train-00000.tar", "train.mp4"]
    put(tmp_path, *others)
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--format", name]
    assert main(flags) == 0
    assert main(flags) == 0  # a target of ours goes on
    assert files(tmp_path).items() >= dict.fromkeys(others, b"mine").items()


@pytest.mark.parametrize("name", OF_ANY_CLIP)
def test_every_file_of_an_export_has_a_name_that_its_format_knows(
    prefix: Path, tmp_path: Path, name: str
) -> None:
    assert main(["--output", str(prefix), "--to", str(tmp_path), "--format", name]) == 0
    written = set(files(tmp_path)) - {RECORD_KEY}
    assert written == {key for key in written if FORMATS[name].is_named(key, ["train"])}
    assert len(written) > 1


def test_the_record_of_an_earlier_version_makes_a_target_ours(prefix: Path, tmp_path: Path) -> None:
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--format", "hub"]
    assert main(flags) == 0
    whole, path = files(tmp_path), tmp_path / RECORD_KEY
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: record[key] for key in ("format", "fingerprint")}))
    next((tmp_path / "data").iterdir()).unlink()
    assert main(flags) == 0
    assert {**files(tmp_path), RECORD_KEY: b""} == {**whole, RECORD_KEY: b""}


@pytest.mark.parametrize("text", ["mine", "{}", "[]"])
def test_a_record_of_something_else_is_no_export(
    prefix: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / RECORD_KEY).write_text(text)
    assert main(["--output", str(prefix), "--to", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} holds export.json, which no export has written")
    assert files(tmp_path) == {RECORD_KEY: text.encode()}


def test_an_export_into_its_own_prefix_does_not_replace_the_card_of_the_run(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prefix, tmp_path / "p")
    before = files(tmp_path / "p")
    place = str(tmp_path / "p")
    assert main(["--output", place, "--to", place, "--format", "hub"]) == 2
    assert f"{place} holds README.md, which no export has written" in capsys.readouterr().err
    assert files(tmp_path / "p") == before
