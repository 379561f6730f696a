"""The pipeline as a step of a Ray Data program: a Dataset in, a Dataset out, on one cluster."""

from __future__ import annotations

import copy
import functools
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import ray
import ray.data

import pipeline
from pipeline.dataset.manifest import all_runs
from pipeline.dataset.schema import SCHEMA
from pipeline.errors import UserError
from pipeline.storage.storage import Storage
from tests.docs.documents import ROOT, blocks
from tests.e2e.engines import broken, obedient
from tests.e2e.outputs import rows_of

pytestmark = pytest.mark.slow

SMALL = {"num_inference_steps": 4, "width": 16, "height": 16, "num_frames": 5}


def settings(output: Path, **more: Any) -> dict[str, Any]:
    """Settings with which a sample fails at once."""
    sampling = {**SMALL, "seed": 7}
    given = {"output": str(output), "sampling": sampling, "max_attempts": 1, "part_rows": 4}
    return {**given, "replicas": 1, **more}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def shout(batch: pa.Table) -> pa.Table:
    """A user's step in front: it changes the prompts."""
    prompts = [text and f"{text}!" for text in batch["words"].to_pylist()]
    return batch.drop_columns(["words"]).append_column("prompt", pa.array(prompts, pa.string()))


def program(output: Path, words: Sequence[str]) -> ray.data.Dataset:
    rows = [{"words": text, "topic": f"t{n}", "fps": 8} for n, text in enumerate(words)]
    prompts = ray.data.from_items(rows).map_batches(shout, batch_format="pyarrow")
    return pipeline.generate(prompts, settings(output), factory=obedient())


def test_a_program_makes_and_filters_clips_and_goes_on(
    local_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, kept = tmp_path / "out", tmp_path / "kept"
    words = ["one", "two", "", "three", "two", "four"]
    clips = program(output, words)
    assert not files(output)  # lazy
    good = clips.filter(lambda row: row["status"] == "ok")
    assert good.context.enable_progress_bars == sys.stdout.isatty()
    good.select_columns(["sample_id", "caption", "fps"]).write_parquet(str(kept))

    stored = {row["sample_id"]: row for row in rows_of(output)}
    assert len(rows_of(output)) == len(stored) == 5
    by_caption = {row["caption"]: row for row in stored.values()}
    assert Counter(row["status"] for row in stored.values()) == {"ok": 4, "rejected": 1}
    assert by_caption[""]["error_message"].startswith("prompt")
    assert by_caption[""]["source_key"] == "dataset:3"
    assert json.loads(by_caption["two!"]["source"]) == {"topic": "t1"}
    written = ds.dataset(kept, format="parquet").to_table().to_pylist()
    assert {row["sample_id"] for row in written} == {
        name for name, row in stored.items() if row["status"] == "ok"
    }
    for row in written:
        assert row["fps"] == 8
        assert (output / "media" / row["sample_id"][:2] / f"{row['sample_id']}.mp4").is_file()
    (run,) = all_runs(Storage(str(output)))
    assert run.state == "done"

    # The same program with one more prompt gives all rows, and makes only the new clip.
    found = program(output, [*words, "five"]).take_all()
    assert set(found[0]) == set(SCHEMA.names)
    (new,) = [row for row in found if row["sample_id"] not in stored]
    assert (len(found), new["caption"]) == (6, "five!")
    assert {row["run_id"] for row in found} == {run.run_id, new["run_id"]}
    assert len(rows_of(output)) == 6

    # A program whose clips are all made loads no model.
    done = ray.data.from_items([{"prompt": "one!", "fps": 8}])
    (known,) = pipeline.generate(done, settings(output), factory=broken).take_all()
    assert known["sample_id"] == by_caption["one!"]["sample_id"]

    # A file is a source too, with the ids of the command line; failures are rows.
    file = tmp_path / "p.jsonl"
    lines = [{"prompt": "one!", "fps": 8}, {"prompt": 7}, {"prompt": "raise"}, {"prompt": "die"}]
    lines.append({"prompt": "beyond the limit"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = pipeline.generate(str(file), settings(output, limit=4), factory=obedient()).take_all()
    by_place = {row["source_key"]: row for row in made}
    assert len(made) == len(by_place) == 4
    assert by_place["dataset:1"]["sample_id"] == by_caption["one!"]["sample_id"]
    assert by_place["p.jsonl:2"]["status"] == "rejected"
    assert by_place["p.jsonl:3"]["error_message"] == "cannot draw this"
    assert (by_place["p.jsonl:4"]["status"], by_place["p.jsonl:4"]["error_type"]) == (
        "failed",
        "WorkerDied",
    )
    assert len(rows_of(output)) == 9

    # The program of the README, word for word; only the engine is another one.
    (code,) = [text for text in blocks("README.md", "python") if "pipeline.generate" in text]
    assert code in (ROOT / "docs/python.md").read_text()
    assert len(code.splitlines()) <= 10
    code = code.replace('"out/', f'"{tmp_path}/out/').replace('"prompts', f'"{tmp_path}/prompts')
    pq.write_table(pa.table({"prompt": ["a ball", "a box"]}), tmp_path / "prompts.parquet")
    theirs = functools.partial(pipeline.generate, factory=obedient())
    monkeypatch.setattr(pipeline, "generate", theirs, raising=False)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        exec(compile(code, "README.md", "exec"), {})
    assert not [each for each in warned if "ray" in each.filename]
    assert len(rows_of(tmp_path / "out/clips")) == 2
    assert all(row["good"] is False for row in rows_of(tmp_path / "out/clips"))  # they stand still
    assert not list((tmp_path / "out").glob("good/*.parquet"))

    # The same program with another condition: the rows that it reads back are judged by it.
    for keep, good in (("motion >= 0", True), ("motion > 0.5", None), ("", None)):
        exec(compile(code.replace("motion > 0.01", keep), "README.md", "exec"), {})
        written = list((tmp_path / "out/good").glob("*.parquet"))
        rows = [row for file in written for row in pq.read_table(file).to_pylist()]
        assert [row["good"] for row in rows] == ([good] * 2 if good else [])
    assert len(rows_of(tmp_path / "out/clips")) == 2


def test_results_of_one_source_know_nothing_of_each_other(local_ray: str, tmp_path: Path) -> None:
    source = ray.data.from_items([{"prompt": "a"}, {"prompt": "b"}])
    before = copy.deepcopy(source.context)
    one, other = (
        pipeline.generate(
            source, settings(tmp_path / name, keep=f"motion > {least}"), factory=obedient()
        )
        for name, least in (("one", 0.1), ("other", 0.2))
    )
    assert source.context == before
    source.map(lambda row: row).take_all()
    assert not files(tmp_path / "one")
    assert len(other.take_all()) == 2
    assert not files(tmp_path / "one")
    held = one.materialize()
    (run,) = (tmp_path / "one" / "runs").glob("*.json")
    record = run.read_bytes()
    assert held.map(lambda row: row).count() == 2  # of blocks that are held
    assert run.read_bytes() == record
    for name in ("one", "other"):
        keep = json.loads((tmp_path / name / "scores" / "keep.json").read_text())["keep"]
        assert keep == {"one": "motion > 0.1", "other": "motion > 0.2"}[name]
        assert [each.state for each in all_runs(Storage(str(tmp_path / name)))] == ["done"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"output": "/tmp/x", "modle": "demo"}, "^there is no setting modle; did you mean model"),
        ({"output": "/tmp/x", 1: 2}, "^Keys should be strings"),
        ({"output": "/tmp/x", "keep": "motio > 1"}, "^--keep motio > 1: .*scores are black"),
        ("run.yaml", "^settings are a mapping or a RunConfig, not a str"),
        ({"output": "/tmp/x", "dry_run": True}, "dry_run is not for a Dataset: run .*generate"),
        ({"output": "/tmp/x", "stages": {"text": "separate"}}, "stages.text is not for a Dataset"),
        ({"output": "/tmp/x", "model": "none"}, "none"),
    ],
)
def test_bad_settings_are_refused_before_any_cluster_is_asked(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        pipeline.build_processor(given)


def test_a_dataset_without_prompts_is_refused_before_it_is_read(
    local_ray: str, tmp_path: Path
) -> None:
    rows = ray.data.from_items([{"words": "a ball"}])
    with pytest.raises(UserError, match=r"^dataset: no column 'prompt'; .* one of: 'words'$"):
        pipeline.generate(rows, settings(tmp_path), factory=obedient())
    pipeline.generate(rows, settings(tmp_path, prompt_column="words"), factory=obedient())
    assert not list(tmp_path.iterdir())


def test_a_source_that_cannot_be_read_is_refused_at_once(local_ray: str, tmp_path: Path) -> None:
    for name, text in (("none.csv", None), ("empty.csv", ""), ("words.csv", "words\na\n")):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            pipeline.generate(str(tmp_path / name), settings(tmp_path / "out"), factory=obedient())
        assert not files(tmp_path / "out")


def test_prompts_that_are_no_dataset_are_refused(tmp_path: Path) -> None:
    rows: Any = [{"prompt": "a ball"}]
    with pytest.raises(UserError, match=r"^prompts are a Dataset of Ray Data, not a list"):
        pipeline.generate(rows, settings(tmp_path), factory=obedient())
