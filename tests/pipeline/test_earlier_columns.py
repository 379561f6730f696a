"""A run says which finished clips of its input have not the columns that the input has now."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.models.resolve import resolve_model
from pipeline.requests.columns import source_json
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.run import run
from pipeline.storage.storage import Storage

Cells = dict[str, Any]
WITHOUT = "made before without the column"


def config_of(folder: Path, name: str = "rows.jsonl") -> RunConfig:
    given = {"prompts": str(folder / name), "output": str(folder / "out"), "dry_run": True}
    return RunConfig.model_validate(given | {"cache": {"policy": "none"}})


def hold(folder: Path, run_id: str, rows: list[Cells], columns: list[str] | None) -> None:
    """Store what a run made; `columns` is what its manifest says of its input, if it does.

    Runs that do not say it are Datasets, of which each task writes parts of its own.
    """
    config, storage = config_of(folder), Storage(str(folder / "out"))
    defaults = request_defaults(config, resolve_model("demo"), storage)
    for task, row in enumerate(rows):
        name = f"{run_id}-{'task' if columns is None else ''}{task}"
        parts = PartWriter(storage, name, part_rows=1, part_seconds=100)
        other = {name: value for name, value in row.items() if name != "prompt"}
        request = build_request({"prompt": row["prompt"]}, defaults, "rows.jsonl:1")
        request = dataclasses.replace(request, source=source_json(other)[0])
        parts.add(to_table([make_row(request, Provenance(run_id), SampleOutcome("ok"))]))
    counts = {} if columns is None else {"columns": columns}
    Manifest(run_id, config.to_dict(), counts).end(storage, "done", {})


def said(folder: Path, rows: list[Cells], *, as_parquet: bool = False) -> str:
    name = "rows.parquet" if as_parquet else "rows.jsonl"
    if as_parquet:
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = io.StringIO()
    run(config_of(folder, name), console=Console(file=text, width=1000))
    return text.getvalue()


@pytest.mark.parametrize(
    ("is_recorded", "as_parquet"),
    [
        (False, False),
        (True, True),
        pytest.param(False, True, marks=pytest.mark.variant),
        pytest.param(True, False, marks=pytest.mark.variant),
    ],
)
def test_a_new_column_of_finished_clips_is_said(
    tmp_path: Path, as_parquet: bool, is_recorded: bool
) -> None:
    first = [{"prompt": text} for text in "abc"]
    hold(tmp_path, "20260101T000000Z-one", first, [] if is_recorded else None)
    now = [{"prompt": text, "category": 'x"category":'} for text in "bcd"]
    text = said(tmp_path, now, as_parquet=as_parquet)
    assert f"\n2 clips of this input were {WITHOUT} category: finished rows keep" in text
    # Nothing is left to make: it is said all the same.
    assert f"1 clip of this input was {WITHOUT} category:" in said(tmp_path, now[:1])
    assert WITHOUT not in said(tmp_path, first, as_parquet=as_parquet)
    assert WITHOUT not in said(tmp_path, now[2:])
    # A run that had the column, be it empty in some rows, has nothing to say.
    made = [{"prompt": "d", "category": "y"}, {"prompt": "e"}, {"prompt": "f", "category": "y"}]
    hold(tmp_path, "20260102T000000Z-two", made, ["category"] if is_recorded else None)
    again = [{"prompt": text, "category": "z"} for text in "def"]
    assert WITHOUT not in said(tmp_path, again, as_parquet=as_parquet)
    both = [row | {"topic": 1} for row in again + now]
    assert f"5 clips of this input were {WITHOUT}s category, topic:" in said(tmp_path, both)
