"""Exports give the same ids, captions and hashes back through the readers that people use."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import datasets
import duckdb
import pytest
import webdataset

from jobs.export import main
from pipeline.dataset import mp4
from pipeline.errors import UserError
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.export.select import parse_splits, select
from pipeline.storage.storage import Storage
from tests.pipeline.export.exported import MOST_SEED, OF_ANY_CLIP, files, sha, truth


@pytest.mark.slow
def test_webdataset_shards_round_trip(prefix: Path, tmp_path: Path) -> None:
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--shard-rows", "4"]
    assert main(flags) == 0
    urls = sorted(str(path) for path in tmp_path.glob("train-*.tar"))
    assert len(urls) == 3
    found = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        row = json.loads(sample["json"])
        assert row["caption"] == sample["txt"].decode()
        assert mp4.decode(sample["mp4"]).shape == (3, 16, 16, 3)
        found[sample["__key__"]] = (sample["txt"].decode(), sha(sample["mp4"]))
    assert found == truth(prefix)
    rows = datasets.load_dataset("webdataset", data_files=urls, cache_dir=str(tmp_path / "cache"))
    seeds = {row["seed_u64"] for row in rows["train"]["json"]}
    assert seeds == {"0", str(MOST_SEED)}


def test_hub_parquet_is_a_video_column_with_its_bytes(
    prefix: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    flags = ["--output", str(prefix), "--to", str(tmp_path / "hub"), "--format", "hub"]
    assert main([*flags, "--splits", "train=0.7,val=0.3"]) == 0
    loaded = datasets.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "val"}
    sizes = ", ".join(f"{name} {len(loaded[name])}" for name in ("train", "val"))
    said = capsys.readouterr().out
    assert f"clips by split: {sizes}" in said
    assert "warning" not in said
    rare = ["--output", str(prefix), "--to", str(tmp_path / "rare"), "--format", "hub"]
    assert main([*rare, "--splits", "train=1,val=0.000001"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "val 0 warning: no clip in val: clips of one prompt stay together" in said
    found = {}
    for split in loaded.values():
        assert split.features["video"] == datasets.Video()
        for row in split.cast_column("video", datasets.Video(decode=False)):
            data = row["video"]["bytes"]
            assert mp4.decode(data).shape == (3, 16, 16, 3)
            found[row["sample_id"]] = (row["caption"], sha(data))
    assert found == truth(prefix)


def test_fastvideo_layout(prefix: Path, tmp_path: Path) -> None:
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--format", "fastvideo"]
    assert main(flags) == 0
    entries = json.loads((tmp_path / "train/videos2caption.json").read_text())
    found = {}
    for entry in entries:
        data = (tmp_path / "train/videos" / entry["path"]).read_bytes()
        assert entry["resolution"] == {"width": 16, "height": 16}
        assert (entry["fps"], entry["duration"], entry["num_frames"]) == (8.0, 3 / 8, 3)
        (caption,) = entry["cap"]
        found[entry["path"].removesuffix(".mp4")] = (caption, sha(data))
    assert found == truth(prefix)


def test_the_prefix_itself_loads_as_a_dataset_of_videos(prefix: Path, tmp_path: Path) -> None:
    want = truth(prefix)
    for name, options in ((str(prefix), {}), ("videofolder", {"data_dir": str(prefix)})):
        cache = str(tmp_path / uuid.uuid4().hex)
        loaded = datasets.load_dataset(name, split="train", cache_dir=cache, **options)
        assert loaded.features["video"] == datasets.Video()
        found, seeds = {}, set()
        for row in loaded.cast_column("video", datasets.Video(decode=False)):
            data = row["video"]["bytes"] or Path(row["video"]["path"]).read_bytes()
            assert mp4.decode(data).shape == (3, 16, 16, 3)
            found[row["sample_id"]] = (row["caption"], sha(data))
            seeds.add((row["seed"], row["seed_u64"]))
        assert found == want
        assert seeds == {(0, "0"), (None, str(MOST_SEED))}


def test_duckdb_reads_the_prefix(prefix: Path) -> None:
    query = """select sample_id, caption, media_sha256 from read_parquet(?)
               where status = 'ok' and control_of = ''"""
    found = duckdb.execute(query, [f"{prefix}/data/*.parquet"]).fetchall()
    assert {name: (caption, digest) for name, caption, digest in found} == truth(prefix)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ANY_CLIP)
def test_exports_are_the_same_bytes_and_go_on_where_they_stopped(
    prefix: Path, tmp_path: Path, name: str
) -> None:
    source, one, two = Storage(str(prefix)), tmp_path / "one", tmp_path / "two"
    chosen = select(source, splits=parse_splits("train=3,val=1"), shard_rows=2)
    assert export(source, Storage(str(one)), chosen, name).written == len(chosen.shards)
    export(source, Storage(str(two)), chosen, name)
    assert files(one) == files(two)
    assert export(source, Storage(str(one)), chosen, name).written == 0
    lost = FORMATS[name].keys(chosen.shards[1])[0]
    (one / lost).unlink()
    assert export(source, Storage(str(one)), chosen, name).written == 1
    assert files(one) == files(two)
    other = select(source, where="caption like '%emoji%'", splits={"train": 1.0}, shard_rows=2)
    with pytest.raises(UserError, match="holds another export"):
        export(source, Storage(str(one)), other, name)


def test_an_unknown_format_is_one_line_with_the_closest(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--format", "webdatset"]
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --format webdatset: should be one of webdataset, hub, ")
    assert line.endswith("; did you mean webdataset?")
