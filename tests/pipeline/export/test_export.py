"""Exports give the same ids, captions and hashes back through the readers that people use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.export import main
from pipeline.dataset import mp4
from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
    to_table,
)
from pipeline.errors import UserError
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.export.select import parse_splits, select, split_of
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.report.hostile import PROMPTS

SAMPLE = SampleRequest(
    "p", "", "demo", "r", "S/3", 4, 4.0, 16, 16, 3, 8, 32, 0, CacheIdentity("planned", "{}", "h")
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips with hostile captions, one control, one failed sample, in two parts."""
    folder = tmp_path_factory.mktemp("prefix")
    storage = Storage(str(folder))
    rows = []
    requests = [dataclasses.replace(SAMPLE, prompt=prompt) for prompt in PROMPTS]
    for number, request in enumerate([*requests, control_for(requests[0])]):
        row = make_row(request, Provenance("r1", "cpu"), SampleOutcome("ok"))
        path = folder / row["video"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        mp4.encode(np.full((3, 16, 16, 3), 20 * number, np.uint8), 8, row, path)
        data = path.read_bytes()
        rows.append(
            row | {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        )
    failed = dataclasses.replace(SAMPLE, prompt="failed")
    rows.append(make_row(failed, Provenance("r1", "cpu"), SampleOutcome("failed", "E", "m")))
    (folder / "data").mkdir()
    for number in range(2):
        pq.write_table(to_table(rows[number::2]), folder / f"data/part-r1-{number:05d}.parquet")
    write_report(storage, Prices())
    return folder


def truth(prefix: Path) -> dict[str, tuple[str, str]]:
    rows = ds.dataset(prefix / "data", format="parquet").to_table().to_pylist()
    return {
        row["sample_id"]: (row["caption"], row["media_sha256"])
        for row in rows
        if row["status"] == "ok" and not row["control_of"]
    }


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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


def test_hub_parquet_is_a_video_column_with_its_bytes(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    flags = ["--output", str(prefix), "--to", str(tmp_path / "hub"), "--format", "hub"]
    assert main([*flags, "--splits", "train=0.7,val=0.3"]) == 0
    loaded = datasets.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "val"}
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
        found = {}
        for row in loaded.cast_column("video", datasets.Video(decode=False)):
            data = row["video"]["bytes"] or Path(row["video"]["path"]).read_bytes()
            assert mp4.decode(data).shape == (3, 16, 16, 3)
            found[row["sample_id"]] = (row["caption"], sha(data))
        assert found == want


def test_duckdb_reads_the_prefix(prefix: Path) -> None:
    query = """select sample_id, caption, media_sha256 from read_parquet(?)
               where status = 'ok' and control_of = ''"""
    found = duckdb.execute(query, [f"{prefix}/data/*.parquet"]).fetchall()
    assert {name: (caption, digest) for name, caption, digest in found} == truth(prefix)


@pytest.mark.parametrize("name", list(FORMATS))
def test_exports_are_the_same_bytes_and_go_on_where_they_stopped(
    prefix: Path, tmp_path: Path, name: str
) -> None:
    source, one, two = Storage(str(prefix)), tmp_path / "one", tmp_path / "two"
    chosen = select(source, splits=parse_splits("train=3,val=1"), shard_rows=2)
    assert export(source, Storage(str(one)), chosen, name) == len(chosen.shards)
    export(source, Storage(str(two)), chosen, name)
    assert files(one) == files(two)
    assert export(source, Storage(str(one)), chosen, name) == 0
    lost = FORMATS[name].keys(chosen.shards[1])[0]
    (one / lost).unlink()
    assert export(source, Storage(str(one)), chosen, name) == 1
    assert files(one) == files(two)
    other = select(source, where="caption like '%emoji%'", splits={"train": 1.0}, shard_rows=2)
    with pytest.raises(UserError, match="holds another export"):
        export(source, Storage(str(one)), other, name)


def test_a_clip_with_other_bytes_is_refused(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(prefix, copy)
    victim = sorted(copy.glob("media/*/*.mp4"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert main(["--output", str(copy), "--to", str(tmp_path / "to"), "--with-controls"]) == 2
    assert "is not the clip of its row" in capsys.readouterr().err


def test_conditions(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Storage(str(prefix))

    def count(where: str, **options: Any) -> int:
        return select(source, where=where, splits={"a": 1.0}, shard_rows=5, **options).clips

    assert count("") == 10
    assert count("", controls=True) == 11
    assert count("cache.nfe = 0 and caption like '%emoji%'") == 1
    assert count("true) or (status = 'failed'") == 10
    for where, problem in (
        ("no_such = 1", "no_such"),
        ("caption in (select content from read_text('/etc/hostname'))", "disabled"),
        ("fps > 100", "no clip is ok and fps > 100"),
    ):
        with pytest.raises(UserError, match=problem):
            count(where)
    assert main(["--output", str(prefix), "--to", "x", "--where", "fps >"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=200, max_size=200, unique=True))
def test_splits_depend_on_ids_alone_and_keep_their_shares(numbers: list[int]) -> None:
    splits = parse_splits("train=8,val=1,test=1")
    ids = [hashlib.sha256(str(n).encode()).hexdigest()[:20] for n in numbers]
    first = [split_of(name, splits) for name in ids]
    assert first == [split_of(name, splits) for name in ids]
    assert first.count("train") == pytest.approx(160, abs=40)


@pytest.mark.parametrize("text", ["", "a=0", "a=x", "a=1,a=1", "a b=1", "a=-1"])
def test_splits_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"train=0\.9,val=0\.1"):
        parse_splits(text)
