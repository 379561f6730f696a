"""A part that a Dataset has stored and that is gone is counted, said, and its rows come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
import ray.data

import pipeline
from pipeline.dataset.manifest import all_runs
from pipeline.dataset.parts import missing_parts, part_files, tell_missing
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.storage.storage import Storage
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of

pytestmark = pytest.mark.slow


def program(output: Path) -> ray.data.Dataset:
    prompts = ray.data.from_items([{"prompt": f"clip {n}"} for n in range(6)])
    sampling = {"num_inference_steps": 4, "width": 16, "height": 16, "num_frames": 5, "seed": 7}
    settings = {"output": str(output), "sampling": sampling, "part_rows": 2, "replicas": 1}
    return pipeline.generate(prompts, settings, factory=obedient())


def made(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = program(output).take_all()
    return rows


def test_a_lost_part_of_a_dataset_is_told_and_made_good(local_ray: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    before = {row["sample_id"] for row in made(output)}
    storage = Storage(str(output))
    parts = part_files(storage)
    (run,) = all_runs(storage)
    assert len(run.named_parts) == len(parts) > 1
    assert missing_parts(parts, [run]) == {}
    storage.delete(parts[0].key)

    missing = missing_parts(part_files(storage), [run])
    assert sum(map(len, missing.values())) == 1
    assert f"1 part of the rows is missing ({parts[0].key})" in tell_missing(missing)
    report = write_report(storage, Prices())
    assert [each.lost_parts for each in report.runs] == [1]
    assert report.verdict is not None
    assert "1 part of the rows is missing" in report.verdict.next
    assert len(rows_of(output)) < len(before)

    again = made(output)
    assert {row["sample_id"] for row in again} == before
    assert {row["run_id"] for row in again} == {run.run_id}  # taken over, and not made again
    assert len(rows_of(output)) == len(before)
    assert missing_parts(part_files(storage), all_runs(storage)) == {}

    storage.delete(part_files(storage)[-1].key)  # what the second execution had stored
    assert sum(map(len, missing_parts(part_files(storage), all_runs(storage)).values())) == 1


def test_a_dataset_that_is_executed_again_takes_over_what_it_has_lost(
    local_ray: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    clips = program(output)
    before = {row["sample_id"] for row in clips.take_all()}
    storage = Storage(str(output))
    storage.delete(part_files(storage)[0].key)
    (run,) = all_runs(storage)
    assert {row["sample_id"] for row in clips.take_all()} == before
    assert {row["run_id"] for row in rows_of(output)} == {run.run_id}
    assert len(rows_of(output)) == len(before)
    assert missing_parts(part_files(storage), all_runs(storage)) == {}
