"""A second run into one prefix says which clips had other defaults than its own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.run import run
from pipeline.storage.storage import Storage

RUN = "20260101T000000Z-first"
PLAIN = [{"prompt": "a"}, {"prompt": "b"}]
OTHER = "This prefix holds clips of other settings:"


def config_of(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> RunConfig:
    prompts = folder / "rows.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"prompts": str(prompts), "output": str(folder / "out"), "cache": {"policy": "none"}}
    return RunConfig.model_validate(given | settings)


def hold(folder: Path, rows: list[dict[str, Any]], writer: str = RUN, **settings: Any) -> None:
    """Store rows and manifest of a run that has made its clips."""
    config = config_of(folder, rows, **settings)
    storage = Storage(config.output)
    defaults = request_defaults(config, resolve_model("demo"), storage)
    parts = PartWriter(storage, writer, part_rows=100, part_seconds=100)
    for row in rows:
        for copy in range(config.samples_per_prompt):
            request = build_request(row, defaults, "rows.jsonl:1", copy)
            parts.add(to_table([make_row(request, Provenance(RUN), SampleOutcome("ok"))]))
    parts.flush()
    Manifest(RUN, config.to_dict(), {}).end(storage, "done", {})


def said(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> str:
    text = io.StringIO()
    config = config_of(folder, rows, dry_run=True, **settings)
    run(config, console=Console(file=text, width=1000))
    return text.getvalue()


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"width": 32, "height": 32}, "width 64 (this run: 32), height 64 (this run: 32)"),
        ({"num_inference_steps": 4}, {}, "num_inference_steps 4 (this run: 50)"),
        ({}, {"guidance_scale": 2}, "guidance_scale 4 (this run: 2)"),
        ({}, {"negative_prompt": "fog"}, 'negative_prompt "" (this run: "fog")'),
        ({"fps": 12}, {"fps": 10}, "fps 12 (this run: 10)"),
        ({"seed": 5}, {"seed": 6}, "seed_u64 5 (this run: 6)"),
        ({}, {"seed": 6}, "seed_u64 unset (this run: 6)"),
    ],
)
def test_clips_of_another_default_are_counted(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], expected: str
) -> None:
    hold(tmp_path, PLAIN, sampling=before, samples_per_prompt=2)
    text = said(tmp_path, PLAIN, sampling=now, samples_per_prompt=2)
    assert "4 clips to make" in text
    assert f"{OTHER} 4 of {expected}. They stay" in text
    columns = expected.replace(", ", " (").split(" (")
    assert f"`{columns[0].split()[0]}`" in text.partition("Tell them apart by the column")[2]
    assert OTHER not in said(tmp_path, PLAIN, sampling=before, samples_per_prompt=2)


def test_rows_that_set_their_own_values_are_not_meant(tmp_path: Path) -> None:
    own = [{"prompt": "a", "width": 32, "height": 32}, {"prompt": "b"}]
    hold(tmp_path, own)
    text = said(tmp_path, own[:1], sampling={"fps": 10})
    assert f"{OTHER} 2 of fps 8 (this run: 10). They stay" in text
    # A size that a run gives wins over the columns of its rows.
    text = said(tmp_path, own, sampling={"width": 32, "height": 32})
    assert "1 done before" in text
    assert f"{OTHER} 1 of width 64 (this run: 32), height 64 (this run: 32)." in text


def test_clips_of_a_dataset_s_tasks_are_counted(tmp_path: Path) -> None:
    hold(tmp_path, PLAIN, writer=f"{RUN}-724cabceebfe", sampling={"seed": 5})
    assert f"{OTHER} 2 of seed_u64 5 (this run: unset)." in said(tmp_path, PLAIN)


def test_a_default_that_an_earlier_run_gave_is_told_from_a_row_s(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "num_frames": 5}, {"prompt": "b"}]
    hold(tmp_path, rows, sampling={"seed": 5})
    assert f"{OTHER} 2 of seed_u64 5 (this run: unset)." in said(tmp_path, rows)
    own = [row | {"seed": 5} for row in rows]
    text = said(tmp_path, own)  # the same clips, whose rows now say their seed
    assert "2 done before" in text
    assert OTHER not in text
