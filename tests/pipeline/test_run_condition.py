"""A run that finds everything done still lets its `--keep` judge the prefix."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.export.select import select
from pipeline.models.resolve import model_of
from pipeline.report.write import REPORT_KEY
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.run import run
from pipeline.scoring.stored_scores import read_choice
from pipeline.storage.storage import Storage

MOTIONS = (0.05, 0.2, 0.4)


def finished(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    """Settings of a run whose three clips are there already."""
    prompts = tmp_path / "rows.jsonl"
    texts = [f"ball {number}" for number in range(len(MOTIONS))]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    given = {"prompts": str(prompts), "output": str(tmp_path / "out"), "device": "cpu"}
    given |= {"cache": {"policy": "none"}, "contact_sheet": False}
    config = RunConfig.model_validate(given | settings)
    storage = Storage(config.output)
    defaults = request_defaults(config, model_of(config), storage)
    rows = []
    for text, motion in zip(texts, MOTIONS, strict=True):
        request = build_request({"prompt": text}, defaults, "rows.jsonl:1")
        row = make_row(request, Provenance("20260101T000000Z-first"), SampleOutcome("ok"))
        rows.append(row | {"scores": [{"name": "motion", "value": motion}], "good": True})
    writer = PartWriter(storage, "20260101T000000Z-first", part_rows=99, part_seconds=1e9)
    writer.add(to_table(rows))
    writer.flush()
    Manifest("20260101T000000Z-first", config.to_dict(), {}).end(storage, "done", {})
    return given


def again(given: dict[str, Any], **settings: Any) -> str:
    text = io.StringIO()
    run(RunConfig.model_validate(given | settings), console=Console(file=text, width=400))
    assert "nothing to make" in text.getvalue() or settings.get("dry_run")
    return text.getvalue()


def good_everywhere(output: Path) -> tuple[set[str], dict[str, Any]]:
    """Captions of the good clips in the index, and what the report says of good clips."""
    index = pq.read_table(output / "metadata.parquet").to_pylist()
    report = json.loads((output / REPORT_KEY).read_text())
    return {row["caption"] for row in index if row["good"]}, report["good_clips"]


def exported(output: Path) -> set[str]:
    """Captions of the clips that an export takes for good."""
    with select(Storage(str(output)), where="", splits={"all": 1.0}, shard_rows=9) as found:
        return {row["caption"] for shard in found.shards for row in shard.rows() if row["good"]}


def test_another_condition_on_a_finished_prefix_judges_report_index_and_exports(
    tmp_path: Path,
) -> None:
    given, output = finished(tmp_path), tmp_path / "out"
    again(given)  # its clips were made without a condition
    for keep, good in (
        ("motion > 0.01", {"ball 0", "ball 1", "ball 2"}),
        ("motion > 0.3", {"ball 2"}),
        ("motion > 0.9", set()),
    ):
        said = again(given, keep=keep)
        assert f"Another condition judges this prefix from now on: {keep} (" in said
        assert f"{len(good)} of 3 clips {'is' if len(good) == 1 else 'are'} good" in said
        assert read_choice(Storage(str(output))).keep == keep
        captions, report = good_everywhere(output)
        assert captions == good
        assert (report["condition"], report["good"]) == (keep, len(good))
        assert exported(output) == good
        assert "report" not in again(given, keep=keep)  # everything is there
    said = again(given)
    assert "this run sets no --keep: a good clip has motion > 0.9" in said
    assert read_choice(Storage(str(output))).keep == "motion > 0.9"


def test_a_prefix_that_goes_on_under_another_condition_has_one_for_all(tmp_path: Path) -> None:
    given, output = finished(tmp_path), tmp_path / "out"
    again(given, keep="motion > 0.01")
    with Path(given["prompts"]).open("a") as file:
        file.write('{"prompt": ""}\n')  # a rejected row: the run has something to write
    text = io.StringIO()
    config = RunConfig.model_validate(given | {"keep": "motion > 0.3"})
    assert run(config, console=Console(file=text, width=400)).totals.rejected == 1
    assert "judges this prefix from now on: motion > 0.3 (was: motion > 0.01)" in text.getvalue()
    captions, report = good_everywhere(output)
    assert captions == exported(output) == {"ball 2"}
    assert (report["condition"], report["good"]) == ("motion > 0.3", 1)


def test_a_dry_run_says_what_another_condition_would_do_and_changes_nothing(
    tmp_path: Path,
) -> None:
    given = finished(tmp_path)
    again(given, keep="motion > 0.01")
    said = again(given, keep="motion > 0.3", dry_run=True)
    assert "Another condition would judge this prefix: motion > 0.3 (was: motion > 0.01)" in said
    assert read_choice(Storage(given["output"])).keep == "motion > 0.01"
