"""Files of tensors: stored before their clip, once, and checked with it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save

from jobs.export import main
from pipeline.attempts.batch_runner import BatchRunner
from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import committed
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.recovery import stored_row
from pipeline.dataset.schema import Row, to_table
from pipeline.dataset.verify import verify
from pipeline.engine.protocol import Clip
from pipeline.errors import UserError
from pipeline.models.call import check_call
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.monitoring.prefix_lines import say_unsaved
from pipeline.monitoring.result import say_result
from pipeline.monitoring.totals import RunTotals
from pipeline.report.card import card_text
from pipeline.report.numbers import measure
from pipeline.report.pricing.prices import Prices
from pipeline.report.rows import read_rows
from pipeline.report.text import print_report
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.panel import ScorerPanel
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import (
    LATENTS,
    META_KEY,
    TEXT_EMBEDS,
    DamagedTensorsError,
    read_tensors,
    tensors_struct,
)
from tests.pipeline.attempts.runners import FakeEngine, ledger_of, requests

BOTH = (LATENTS, TEXT_EMBEDS)


def tensors_of(name: str, *, by: str = "one") -> bytes:
    """A file as an engine makes it; another worker's differs."""
    about = {"by": by, "latents": {"normalised": False, "mean": [0.5]}, "text_embeds": {}}
    values = np.full((2, 1, 2, 2), len(name), np.float32)
    tensors = {"latents": values, "prompt_embeds": np.ones((3, 4), np.float32)}
    return save(tensors, {META_KEY: json.dumps(about)})


class SavingEngine(FakeEngine):
    """Gives each clip its tensors."""

    def __init__(self, by: str = "one") -> None:
        super().__init__()
        self.by = by

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        clips = super().generate(requests)
        return [
            dataclasses.replace(clip, tensors=tensors_of(request.prompt, by=self.by))
            for request, clip in zip(requests, clips, strict=True)
        ]


def made(
    storage: Storage, *prompts: str, engine: FakeEngine | None = None, **options: Any
) -> list[Row]:
    ledger = ledger_of(storage)
    runner = BatchRunner(engine or SavingEngine(), storage, ledger, "run", batch_rows=3, **options)
    rows = runner.process(requests(*prompts))
    runner.close()
    return rows


def commit(storage: Storage, rows: Sequence[Row], part: str = "run") -> None:
    parts = PartWriter(storage, part, part_rows=99, part_seconds=99)
    parts.add(to_table(rows))
    parts.flush()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "out"))


def test_a_row_says_where_its_tensors_are_and_what_they_are(storage: Storage) -> None:
    rows = made(storage, "a", "bb")
    for row in rows:
        said = row["tensors"]
        data = storage.read_bytes(said["path"])
        assert said["path"].startswith(f"tensors/{row['sample_id'][:2]}/{row['sample_id']}-")
        assert (said["bytes"], said["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (said["saved"], said["normalised"]) == ("latents,text_embeds", False)
        assert (said["latents_dtype"], said["latents_shape"]) == ("F32", [2, 1, 2, 2])
        assert data == tensors_of(row["caption"])
        assert read_tensors(storage, row) == data
        assert stored_row(storage, row["sample_id"])["tensors"] == said  # type: ignore[index]
    assert to_table(rows)["tensors"].to_pylist() == [row["tensors"] for row in rows]
    with pytest.raises(ValueError, match="not a safetensors file"):
        tensors_struct("ab", b"no tensors")
    with pytest.raises(ValueError, match="did not write"):
        tensors_struct("ab", save({"x": np.zeros(1)}))


def test_what_is_saved_is_no_part_of_an_id() -> None:
    common = {"prompts": "p.txt", "output": "out"}
    model = resolve_model("demo")
    ids = set()
    for save_what in ([], ["latents"], [*BOTH]):
        config = RunConfig.model_validate(common | {"save": save_what})
        request = build_request({"prompt": "a"}, request_defaults(config, model), "p.txt:0")
        ids.add(request.sample_id)
    assert len(ids) == 1


def test_a_model_that_cannot_give_tensors_is_refused_in_one_line() -> None:
    common = {"prompts": "p.txt", "output": "out"}
    spec = MODELS["demo"]
    check_call(RunConfig.model_validate(common | {"save": list(BOTH)}), spec)
    with pytest.raises(UserError, match="should be latents, text_embeds or trajectory"):
        check_call(RunConfig.model_validate(common | {"save": ["frames"]}), spec)
    in_parts = dataclasses.replace(
        spec, pipeline=dataclasses.replace(spec.pipeline, own_steps=True, text_embeddings=())
    )
    with pytest.raises(UserError, match=r"--save latents does not serve demo.*in parts"):
        check_call(RunConfig.model_validate(common | {"save": ["latents"]}), in_parts)
    with pytest.raises(UserError, match=r"--save text_embeds: nothing says what"):
        check_call(RunConfig.model_validate(common | {"save": ["text_embeds"]}), in_parts)


def test_only_clips_that_are_kept_have_tensors(storage: Storage) -> None:
    panel = ScorerPanel((), "caption = 'a'")
    good, bad = made(storage, "a", "b", panel=panel)
    assert (good["good"], bad["good"]) == (True, False)
    assert good["tensors"]
    assert bad["tensors"] is None
    assert len(storage.list("tensors/")) == 1
    totals = RunTotals()
    totals.add(to_table([good, bad]))
    assert (totals.saved, totals.saved_bytes) == (1, good["tensors"]["bytes"])
    text = io.StringIO()
    config = RunConfig.model_validate({"prompts": "p", "output": "o", "save": list(BOTH)})
    say_result(Console(file=text, width=200), config, totals, interrupted=False)
    assert (
        f"latents, text_embeds of 1 clip, {totals.saved_bytes} B; 1 without: not good"
        in text.getvalue()
    )


def test_a_second_writer_of_a_clip_leaves_no_tensors_behind(storage: Storage) -> None:
    storage = storage.check_writable()
    assert storage.conditional
    (first,) = made(storage, "a")
    (second,) = made(storage, "a", engine=SavingEngine(by="two"))
    assert second["tensors"] == first["tensors"]
    assert [entry.key for entry in storage.list("tensors/")] == [first["tensors"]["path"]]
    (same,) = made(storage, "a")  # the same bytes have the same name, and stay
    assert read_tensors(storage, same)


@pytest.mark.parametrize("lost", [True, False])
def test_a_clip_without_its_tensors_is_damaged_and_made_again(storage: Storage, lost: bool) -> None:
    rows = made(storage, "a", "b")
    commit(storage, rows)
    hit = rows[0]
    key = hit["tensors"]["path"]
    if lost:
        storage.delete(key)
    else:
        storage.put_bytes(key, storage.read_bytes(key)[:-1] + b"!")
    with pytest.raises(DamagedTensorsError, match="is missing" if lost else "another SHA-256"):
        read_tensors(storage, hit)
    assert stored_row(storage, hit["sample_id"]) is None
    found = verify(storage)
    assert (found.checked, list(found.damaged), found.rows.num_rows) == (2, [hit["sample_id"]], 0)
    assert bytes.fromhex(hit["sample_id"]) not in committed(storage)
    (again,) = made(storage, "a")
    assert read_tensors(storage, again)


def test_clips_that_were_made_without_tensors_are_counted_and_left(storage: Storage) -> None:
    commit(storage, made(storage, "a", "b", engine=FakeEngine()), "old")
    commit(storage, made(storage, "c"), "new")
    assert committed(storage).unsaved == 0
    assert committed(storage, save=["latents"]).unsaved == 2
    found = committed(storage, save=BOTH).without(committed(storage).failed)
    assert (len(found.ids), found.unsaved) == (3, 2)
    text = io.StringIO()
    say_unsaved(Console(file=text, width=400), found.unsaved, BOTH)
    say_unsaved(Console(file=text, width=400), 0, BOTH)
    assert text.getvalue().startswith("2 clips of this prefix have no latents or no text_embeds: ")
    assert text.getvalue().count("\n") == 1
    say_unsaved(Console(file=text, width=400), 0, ["trajectory"], "none")
    assert text.getvalue().count("\n") == 1
    say_unsaved(Console(file=text, width=400), 0, ["trajectory"], "planned")
    assert "Trajectories are those of cached clips" in text.getvalue()


def test_reports_say_what_is_kept(storage: Storage) -> None:
    rows = made(storage, "a", "b")
    commit(storage, [*rows, *made(storage, "c", engine=FakeEngine())])
    report = measure(read_rows(storage), Prices())
    size = sum(row["tensors"]["bytes"] for row in rows)
    assert (report.totals.tensor_clips, report.totals.tensor_bytes) == (2, size)
    assert report.totals.lost == 0
    storage.delete(rows[0]["tensors"]["path"])
    storage.put_bytes(rows[1]["tensors"]["path"], b"cut short")
    lost = measure(read_rows(storage), Prices())
    assert lost.totals.lost == 2
    assert lost.verdict is not None
    assert "2 files of clips are not stored whole" in lost.verdict.got
    assert rows[0]["tensors"]["path"] in " ".join(lost.notes)
    text = io.StringIO()
    print_report(report, Console(file=text, width=200))
    assert f"{size} B of tensors of 2 clips · " in text.getvalue()
    assert " a month in S3 at $0.023 per GB" in text.getvalue()
    assert "| for trainers | tensors of 2 clips, " in card_text(report)


@pytest.mark.slow
def test_exports_hold_tensors_where_clips_have_them(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = made(storage, "a", "bb")
    commit(storage, [*rows, *made(storage, "ccc", engine=FakeEngine())])
    flags = ["--output", storage.uri, "--to"]
    assert main([*flags, str(tmp_path / "wds"), "--bucket-by", "aspect, length"]) == 0
    assert "2 clips with tensors" in capsys.readouterr().out
    wanted = {f"{row['sample_id']}.safetensors": tensors_of(row["caption"]) for row in rows}
    assert tensors_in(tmp_path / "wds/train-16-9_5f-00000.tar") == wanted  # 32x16 pixels
    with monkeypatch.context() as smaller:  # a shard is made in memory, and trajectories are large
        smaller.setattr("pipeline.export.select.SHARD_TENSOR_BYTES", len(tensors_of("bb")))
        assert main([*flags, str(tmp_path / "small")]) == 0
    assert len(list((tmp_path / "small").glob("*.tar"))) == 3
    assert main([*flags, str(tmp_path / "plain"), "--without-tensors"]) == 0
    assert tensors_in(tmp_path / "plain/train-00000.tar") == {}
    assert main([*flags, str(tmp_path / "plain")]) == 2  # another export
    assert main([*flags, str(tmp_path / "hub"), "--format", "hub"]) == 0
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = datasets.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    rows_there = loaded["train"]
    cells = dict(zip(rows_there["sample_id"], rows_there["safetensors"], strict=True))
    assert sorted(cell is None for cell in cells.values()) == [False, False, True]
    assert all(cells[row["sample_id"]] == tensors_of(row["caption"]) for row in rows)
    capsys.readouterr()
    assert main([*flags, str(tmp_path / "f"), "--format", "fastvideo-latents"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 clips in 1 shard" in said
    assert "1 clip left out, without latents or text_embeds (--save)" in said
    (shard,) = (tmp_path / "f").rglob("*.parquet")
    before = shard.read_bytes()
    assert main([*flags, str(tmp_path / "f"), "--format", "fastvideo-latents"]) == 0
    assert "0 of them written now" in " ".join(capsys.readouterr().out.split())
    shard.unlink()
    assert main([*flags, str(tmp_path / "f"), "--format", "fastvideo-latents"]) == 0
    assert shard.read_bytes() == before

    storage.delete(rows[0]["tensors"]["path"])
    assert main([*flags, str(tmp_path / "lost")]) == 1
    said = capsys.readouterr()
    assert "is missing" in said.err
    assert "1 clip with tensors" in said.out
    assert len(tensors_in(tmp_path / "lost/train-00000.tar")) == 1
    # Another worker makes the clip and its tensors again.
    (again,) = made(storage, "a", engine=SavingEngine("another"))
    assert again["tensors"]["sha256"] != rows[0]["tensors"]["sha256"]
    storage.delete("data/part-run-00000.parquet")
    commit(storage, [again, rows[1], *made(storage, "ccc", engine=FakeEngine())])
    assert main([*flags, str(tmp_path / "lost")]) == 0
    assert len(tensors_in(tmp_path / "lost/train-00000.tar")) == 2


def test_exports_refuse_what_does_not_fit(storage: Storage, capsys: Any, tmp_path: Path) -> None:
    commit(storage, made(storage, "a", engine=FakeEngine()))
    flags = ["--output", storage.uri, "--to", str(tmp_path / "to")]
    for more, message in (
        (
            ["--format", "fastvideo-latents"],
            "no clip is ok and has latents and text_embeds (1 clip without)",
        ),
        (["--bucket-by", "size"], "--bucket-by size: should be some of resolution, aspect, length"),
        (["--bucket-by", "length", "--format", "fastvideo"], "which has no shards"),
        (["--without-tensors", "--format", "fastvideo-latents"], "which consists of them"),
    ):
        assert main([*flags, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def tensors_in(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as opened:
        return {
            name: opened.extractfile(name).read()  # type: ignore[union-attr]
            for name in opened.getnames()
            if name.endswith(".safetensors")
        }
