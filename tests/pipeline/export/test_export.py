"""Exports give the same ids, captions and hashes back through the readers that people use."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import re
import shutil
import uuid
from collections import Counter
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

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts
from jobs.export import main
from pipeline.dataset import mp4
from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
    to_table,
)
from pipeline.errors import StorageError, UserError
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.export.select import parse_splits, select, split_of
from pipeline.export.spool import Spool
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.report.hostile import PROMPTS
from tests.pipeline.report.made import write

SAMPLE = SampleRequest(
    "p", "", "demo", "r", "S/3", 4, 4.0, 16, 16, 3, 8, 32, 0, CacheIdentity("planned", "{}", "h")
)


MOST_SEED = 2**64 - 1

OF_ANY_CLIP = ["webdataset", "hub", "fastvideo"]
"""Formats that need neither tensors nor a library of their own; the others have own tests."""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips with hostile captions, one control, one failed sample, in two parts."""
    folder = tmp_path_factory.mktemp("prefix")
    storage = Storage(str(folder))
    rows = []
    requests = [dataclasses.replace(SAMPLE, prompt=prompt) for prompt in PROMPTS]
    requests[-1] = dataclasses.replace(requests[-1], seed=MOST_SEED)
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
                mp4.encode(np.full((3, 16, 16, 3), 99, np.uint8), 8, row, path)
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


def test_an_unknown_format_is_one_line_with_the_closest(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output", str(prefix), "--to", str(tmp_path), "--format", "webdatset"]
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --format webdatset: should be one of webdataset, hub, ")
    assert line.endswith("; did you mean webdataset?")


def test_an_export_without_a_part_of_the_rows_says_so(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prefix, copy)
    gone = "data/part-r1-00000.parquet"
    (copy / gone).unlink()
    assert main(["--output", str(copy), "--to", str(tmp_path / "to")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: 1 part of the rows is missing ({gone}): the command that ")


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


@pytest.mark.slow
def test_conditions(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Storage(str(prefix))

    def count(where: str, **options: Any) -> int:
        return select(source, where=where, splits={"a": 1.0}, shard_rows=5, **options).clips

    assert count("") == 10
    assert count("", controls=True) == 11
    assert count("cache.nfe = 0 and caption like '%emoji%'") == 1
    assert count("true) or (status = 'failed'") == 10
    for where, problem in (
        ("no_such = 1", "--where no_such = 1: there is no column or score .*; columns are sample_"),
        ("caption in (select content from read_text('/etc/hostname'))", "disabled"),
        ("fps > 100", "no clip is ok and fps > 100"),
    ):
        with pytest.raises(UserError, match=problem):
            count(where)
    assert main(["--output", str(prefix), "--to", "x", "--where", "fps >"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=200, max_size=200, unique=True))
def test_splits_depend_on_prompts_alone_and_keep_their_shares(prompts: list[str]) -> None:
    splits = parse_splits("train=8,val=1,test=1")
    first = [split_of(prompt, splits) for prompt in prompts]
    assert first == [split_of(prompt, splits) for prompt in reversed(prompts)][::-1]
    assert first.count("train") == pytest.approx(160, abs=40)


def test_no_prompt_is_in_two_splits(tmp_path: Path) -> None:
    """Three prompts, each with twelve seeds, two settings and a control of each clip."""
    rows = []
    for prompt in ("a red ball", "a blue square", "a green star"):
        for seed in range(12):
            for cache in (SAMPLE.cache, CacheIdentity("planned", '{"budget":0.26}', "h")):
                request = dataclasses.replace(SAMPLE, prompt=prompt, seed=seed, cache=cache)
                rows += [
                    make_row(each, Provenance("r"), SampleOutcome("ok"))
                    for each in (request, control_for(request))
                ]
    storage = write(tmp_path, rows[::2], rows[1::2])
    splits = parse_splits("train=1,val=1")
    homes: dict[str, set[str]] = {}
    with select(storage, splits=splits, shard_rows=7, controls=True) as chosen:
        assert chosen.clips == 3 * 12 * 2 * 2
        for shard in chosen.shards:
            assert [row["sample_id"] for row in shard.rows()] == sorted(shard.ids)
            for row in shard.rows():
                homes.setdefault(row["caption"], set()).add(shard.split)
    assert homes == {prompt: {split_of(prompt, splits)} for prompt in homes}
    assert len(set.union(*homes.values())) == 2


def test_clips_with_one_value_of_an_input_column_are_in_one_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(60):
        request = dataclasses.replace(SAMPLE, prompt=f"p {number}")
        source = "" if number < 3 else json.dumps({"film": number % 8, "n": number})
        rows.append(make_row(request, Provenance("r"), SampleOutcome("ok")) | {"source": source})
    storage = write(tmp_path, rows[::2], rows[1::2])
    splits = parse_splits("train=1,val=1")
    homes: dict[Any, set[str]] = {}
    with select(storage, splits=splits, shard_rows=7, split_by="film") as chosen:
        assert (chosen.clips, [each.clips for each in chosen.lacking]) == (60, [3])
        placed = [shard.ids for shard in chosen.shards]
        for shard in chosen.shards:
            for row in shard.rows():
                key = json.loads(row["source"])["film"] if row["source"] else row["caption"]
                homes.setdefault(key, set()).add(shard.split)
                if not row["source"]:
                    assert shard.split == split_of(row["caption"], splits)
    assert all(len(home) == 1 for home in homes.values())
    assert {each for key, home in homes.items() if isinstance(key, int) for each in home} == {
        "train",
        "val",
    }
    with select(storage, splits=splits, shard_rows=7) as usual:
        assert usual.lacking == ()
        assert [shard.ids for shard in usual.shards] != placed
    to = ["--output", str(tmp_path), "--to", str(tmp_path / "one"), "--splits", "train=1,val=1"]
    one_film = ["--where", "source->>'film' = '5'"]
    assert main([*to, *one_film, "--split-by", "film"]) == 1  # no clip is stored
    said = " ".join(capsys.readouterr().out.split())
    assert ": all clips have the same value in film, and clips of one value stay together" in said
    flags = ["--output", str(tmp_path), "--to", str(tmp_path / "x"), "--split-by", "fil"]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert "--split-by fil: no row of" in error
    assert main([*flags[:-1], "width"]) == 2
    assert "(it is a column of the rows: --stratify-by width" in capsys.readouterr().err
    assert "(did you mean film?); rows keep these columns of the input: film, n\n" in error


@pytest.mark.slow
def test_each_stratum_is_divided_in_the_shares_and_no_prompt_is_in_two_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(120):
        topic = {"topic": "abc"[number % 3]}
        for seed in range(2):
            request = dataclasses.replace(SAMPLE, prompt=f"p {number}", seed=seed)
            if number == 0 and seed:
                topic = {"topic": "b"}  # one prompt in two strata
            row = make_row(request, Provenance("r"), SampleOutcome("ok"))
            rows.append(row | {"source": json.dumps(topic)})
    storage = write(tmp_path, rows[::2], rows[1::2])
    splits, value = parse_splits("train=3,val=1"), "source->>'topic'"
    counts: Counter[tuple[str, str]] = Counter()
    homes: dict[str, set[str]] = {}
    with select(storage, splits=splits, shard_rows=7, stratify_by=value) as chosen:
        for shard in chosen.shards:
            assert shard.ids == sorted(shard.ids)
            for row in shard.rows():
                homes.setdefault(row["caption"], set()).add(shard.split)
                if row["caption"] != "p 0":
                    counts[json.loads(row["source"])["topic"], shard.split] += 1
    assert all(len(home) == 1 for home in homes.values())
    assert counts == {
        **{("a", "train"): 58, ("a", "val"): 20},
        **{(topic, split): n for topic in "bc" for split, n in (("train", 60), ("val", 20))},
    }
    with select(storage, splits=splits, shard_rows=7, where="seed = 0", stratify_by="1") as one:
        assert [sum(s.clips for s in one.shards if s.split == name) for name in splits] == [90, 30]
    flags = ["--output", str(tmp_path), "--to", str(tmp_path / "x"), "--stratify-by", "tpic"]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert (
        "--stratify-by tpic: there is no column or score 'tpic'; did you mean source->>'topic'"
        in error
    )
    assert main([*flags[:4], "--stratify-by", "source->>'tpic'"]) == 2
    kept = "rows keep these columns of the input: topic\n"
    error = capsys.readouterr().err
    assert f"--stratify-by source->>'tpic': no clip has a value there; {kept}" in error
    assert main([*flags[:4], "--where", "source->>'tpic' = 'a'"]) == 2
    assert f"no clip is ok and source->>'tpic' = 'a'; {kept}" in capsys.readouterr().err
    for flag in ("--stratify-by", "--where"):
        assert main([*flags[:4], flag, "random() > 0.5"]) == 2
        error = f"error: {flag} random() > 0.5: random() gives another value each time"
        assert capsys.readouterr().err.startswith(error)


@pytest.mark.parametrize(("strata", "prompts"), [(100, 1), (70, 3), (20, 16)])
def test_many_small_strata_fill_every_split(tmp_path: Path, strata: int, prompts: int) -> None:
    rows = []
    for number in range(strata * prompts):
        request = dataclasses.replace(SAMPLE, prompt=f"p {number}")
        row = make_row(request, Provenance("r"), SampleOutcome("ok"))
        rows.append(row | {"source": json.dumps({"topic": number % strata})})
    splits, value = parse_splits("train=0.8,val=0.1,test=0.1"), "source->>'topic'"
    found: Counter[str] = Counter()
    of_value: Counter[tuple[int, str]] = Counter()
    storage = write(tmp_path, rows)
    with select(storage, splits=splits, shard_rows=100, stratify_by=value) as chosen:
        for shard in chosen.shards:
            found[shard.split] += shard.clips
            of_value.update((json.loads(r["source"])["topic"], shard.split) for r in shard.rows())
    for split, share in splits.items():
        assert found[split] == pytest.approx(share * len(rows), rel=0.15)
        for topic in range(strata):
            assert abs(of_value[topic, split] - share * prompts) < 1


def test_clips_without_what_a_flag_asks_for_are_counted(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prefix, tmp_path / "out")
    parts = sorted((tmp_path / "out/data").iterdir())
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    clips = [row for row in rows if row["status"] == "ok" and not row["control_of"]]
    for row in clips[:4]:
        row["source"] = json.dumps({"a b": "x" if row is clips[0] else "y"})
    pq.write_table(to_table(rows), parts[0])
    # The same clips once more, by another run; and a control and a failed sample without a value.
    pq.write_table(to_table(clips), parts[1])
    flags = ["--output", str(tmp_path / "out"), "--to"]
    value, some = "source->>'a b'", f"6 of {len(clips)} clips have no value in"
    assert main([*flags, str(tmp_path / "x"), "--where", f"{value} = 'y'"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 clips in 1 shard" in said
    assert f"--where: {some} a b (the input had no such column then, or an empty cell)" in said
    assert main([*flags, str(tmp_path / "y"), "--split-by", "a b", "--splits", "a=3,b=1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--split-by: {some} a b, and are split by their prompts" in said
    assert "shares add up to 4 and were scaled to 1: a 0.75, b 0.25" in said
    flags += [str(tmp_path / "z"), "--splits", "a=0.9,b=0.1"]
    assert main([*flags, "--stratify-by", value]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--stratify-by: {some} {value}, and are divided as a value of their own" in said
    assert "shares add up" not in said
    assert main([*flags, "--where", f"{value} = 'z'"]) == 2
    assert capsys.readouterr().err.endswith(f"of the input: a b; {some} a b\n")
    with pytest.raises(UserError, match=r"--splits a=0.4: should name .* a=0.4,rest=0.6;"):
        parse_splits("a=0.4")


@pytest.mark.parametrize("text", ["", "a=0", "a=x", "a=1,a=1", "a b=1", "a=-1"])
def test_splits_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"train=0\.9,val=0\.1"):
        parse_splits(text)


@pytest.mark.slow
def test_a_selection_reads_each_part_once_and_keeps_no_row_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for number, table in enumerate(synthetic_parts(20_000, 200)):
        pq.write_table(table, tmp_path / f"data/part-x-{number:05d}.parquet")
    read: list[str] = []
    listed: list[str] = []
    monkeypatch.setattr(
        Storage,
        "read_bytes",
        lambda self, key, real=Storage.read_bytes: read.append(key) or real(self, key),
    )
    monkeypatch.setattr(
        Storage,
        "list",
        lambda self, prefix="", real=Storage.list: listed.append(prefix) or real(self, prefix),
    )
    gc.collect()
    before = len(gc.get_objects())
    with select(Storage(str(tmp_path)), splits={"a": 1.0}, shard_rows=500) as chosen:
        gc.collect()
        # 20,000 rows; as dictionaries they were some 100,000 objects.
        assert len(gc.get_objects()) - before < 2_000
        assert chosen.clips > 18_000
        assert len(read) == len(set(read)) == 100
        assert listed == ["scores/part-", "captions/part-", "data/part-"]
        rows = [row for shard in chosen.shards[:3] for row in shard.rows()]
        assert [row["sample_id"] for row in rows] == [i for s in chosen.shards[:3] for i in s.ids]
        assert len(read) == 100


@pytest.mark.slow
def test_rows_of_thousands_of_small_parts_fit_into_the_memory_of_the_database() -> None:
    (table,) = synthetic_parts(9_000, 9_000)
    spool = Spool(Storage(f"memory://{uuid.uuid4().hex}"))
    try:
        spool._take([table.slice(at, 3) for at in range(0, 9_000, 3)], lambda text: (0, 0), "")
        assert spool.choose("true", "").clips == 9_000
    finally:
        spool.close()


def test_a_database_without_room_is_told_in_one_line() -> None:
    (table,) = synthetic_parts(10, 10)
    spool = Spool(Storage(f"memory://{uuid.uuid4().hex}"))
    database = spool._database

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

        def execute(self, query: str) -> None:
            raise duckdb.OutOfMemoryException("Out of Memory Error: no block\n\nSolutions: ...")

    spool._database = Full()  # type: ignore[assignment]
    with pytest.raises(
        StorageError, match=r"cannot sort rows in \S+: Out of Memory Error: no block$"
    ):
        spool._take([table], lambda text: (0, 0), "")
    spool.close()


@pytest.mark.slow
def test_a_selection_of_many_batches_is_complete_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.spool.BATCH_ROWS", 2_000)
    (tmp_path / "data").mkdir()
    tables = list(synthetic_parts(30_000, 3_000))
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"data/part-x-{number:05d}.parquet")
    with select(Storage(str(tmp_path)), splits={"a": 1.0}, shard_rows=1_000) as chosen:
        found = [sample_id for shard in chosen.shards for sample_id in shard.ids]
    wanted = {
        sample_id
        for table in tables
        for sample_id, status, control in zip(
            *(table[n].to_pylist() for n in ("sample_id", "status", "control_of")), strict=True
        )
        if status == "ok" and not control
    }
    assert found == sorted(wanted)
