"""Which clips a selection takes, and what it reads and keeps for that."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts
from jobs.export import main
from pipeline.dataset.schema import (
    to_table,
)
from pipeline.errors import UserError
from pipeline.export.select import parse_splits, select
from pipeline.storage.storage import Storage


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
