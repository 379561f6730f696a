"""Which clips go into which split: by prompt, by a value, by strata."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.export import main
from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
)
from pipeline.errors import UserError
from pipeline.export.select import parse_splits, select, split_of
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity
from tests.pipeline.export.exported import SAMPLE
from tests.pipeline.report.made import write


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


@pytest.mark.parametrize("text", ["", "a=0", "a=x", "a=1,a=1", "a b=1", "a=-1"])
def test_splits_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"train=0\.9,val=0\.1"):
        parse_splits(text)
