"""Inputs as people and tools really write them, read by the real intake to the last cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.run_config import load_config
from pipeline.dataset.committed import Committed
from pipeline.prompts.reader import read_source
from pipeline.requests.columns import MAX_SOURCE_CHARS, ColumnUse, source_json
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest

BASE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 64, 64, 9, 8, 32, 0)
DEFAULTS = RequestDefaults(BASE, None, 8, 4)
OPENVID = (
    "video,caption,aesthetic score,camera motion,frame,fps,seconds,new_id\n"
    "a_0.mp4,a red circle moves right,5.1,pan_left,133,24.0,4.43,1\n"
    "b_0.mp4,a blue square moves up,,static,97,30.0,4.04,2\n"
)


def taken(path: Path, *flags: str) -> tuple[list[SampleRequest], Intake]:
    """The requests of an input under the flags of a run."""
    config = load_config([f"--prompts={path}", "--output=out", *flags])
    sampling = config.sampling.model_dump(exclude_none=True)
    base = {name: value for name, value in sampling.items() if name != "seed"}
    defaults = RequestDefaults(
        SampleRequest.from_json(json.dumps(json.loads(BASE.to_json()) | base)),
        config.sampling.seed,
        8,
        4,
    )
    rows = read_source(config.prompts, config.prompt_column, config.columns)
    intake = Intake(rows, defaults, Committed(), columns=ColumnUse.of(config))
    return list(intake), intake


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def prompts(requests: Sequence[SampleRequest]) -> list[str]:
    return [request.prompt for request in requests]


def test_columns_of_a_source_video_are_taken_and_said(tmp_path: Path) -> None:
    requests, intake = taken(write(tmp_path / "openvid.csv", OPENVID))
    assert [(r.prompt, r.fps, json.loads(r.source)) for r in requests] == [
        (
            "a red circle moves right",
            24,
            {
                "video": "a_0.mp4",
                "aesthetic score": "5.1",
                "camera motion": "pan_left",
                "frame": "133",
                "seconds": "4.43",
                "new_id": "1",
            },
        ),
        (
            "a blue square moves up",
            30,
            {
                "video": "b_0.mp4",
                "camera motion": "static",
                "frame": "97",
                "seconds": "4.04",
                "new_id": "2",
            },
        ),
    ]
    assert list(intake.columns.lines()) == [
        "taken from the input: fps (2 rows); a --sampling flag wins over its column, and "
        "--columns prompt,... reads only the columns that it names",
        "kept in the column source: video, aesthetic score, camera motion, frame, seconds, new_id",
    ]


def test_an_explicit_setting_wins_over_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "openvid.csv", OPENVID)
    requests, intake = taken(path, "--sampling.fps=16")
    assert [(r.fps, json.loads(r.source)["fps"]) for r in requests] == [(16, 24), (16, 30)]
    assert next(intake.columns.lines()) == (
        "--sampling.fps wins over the column fps of 2 rows; "
        "name the column in --columns to use it instead"
    )
    requests, intake = taken(path, "--sampling.fps=16", "--columns=fps,new_id")
    assert [(r.fps, r.source) for r in requests] == [(24, '{"new_id":"1"}'), (30, '{"new_id":"2"}')]


def test_an_explicit_setting_fills_cells_that_are_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "prompt,seed,width\na,5,\nb,,32\n")
    requests, _ = taken(path, "--sampling.seed=9", "--sampling.width=16", "--columns=seed")
    assert [(r.seed, r.width) for r in requests] == [(5, 16), (9, 16)]


def test_only_the_named_columns_are_read(tmp_path: Path) -> None:
    requests, intake = taken(write(tmp_path / "openvid.csv", OPENVID), "--columns=caption,new_id")
    assert [(r.fps, r.source) for r in requests] == [(8, '{"new_id":"1"}'), (8, '{"new_id":"2"}')]
    assert intake.columns.missing() == []


def test_a_named_column_that_is_nowhere_is_found_out(tmp_path: Path) -> None:
    _, intake = taken(write(tmp_path / "p.jsonl", '{"prompt": "a"}\n'), "--columns=prompt,sed")
    assert intake.columns.missing() == ["sed"]


def test_cells_of_every_type_arrive(tmp_path: Path) -> None:
    cells: dict[str, Any] = {
        "text": ["a"],
        "id": pa.array([2**60], pa.int64()),
        "score": [0.25],
        "bad": [float("nan")],
        "tags": [["x", "y"]],
        "box": [{"left": 1}],
        "day": pa.array([0], pa.date32()),
        "none": pa.array([None], pa.string()),
        "clip": [b"\x00" * 100],
        "frames": [[b"\x00"]],
        "url": ["https://me:secret@host/x.mp4"],
    }
    pq.write_table(pa.table(cells), tmp_path / "p.parquet")
    (request,), _ = taken(tmp_path / "p.parquet")
    assert json.loads(request.source) == {
        "id": 2**60,
        "score": 0.25,
        "bad": None,
        "tags": ["x", "y"],
        "box": {"left": 1},
        "day": "1970-01-01",
        "url": "https://host/x.mp4",
    }


def test_a_column_that_is_too_long_is_left_out_and_said(tmp_path: Path) -> None:
    row = {"prompt": "a", "embedding": [0.5] * MAX_SOURCE_CHARS, "id": "x"}
    (request,), intake = taken(write(tmp_path / "p.jsonl", json.dumps(row)))
    assert request.source == '{"id":"x"}'
    assert list(intake.columns.lines())[-1].endswith("together: embedding (1 row)")


def test_the_source_changes_no_id(tmp_path: Path) -> None:
    (one,), _ = taken(write(tmp_path / "p.jsonl", '{"prompt": "a", "id": 1}'))
    (two,), _ = taken(write(tmp_path / "q.jsonl", '{"prompt": "a"}'))
    assert one.sample_id == two.sample_id
    assert two.source == ""


@pytest.mark.parametrize("value", ["\ud800", {"deep": [None, True]}, 10**30])
def test_source_json_is_json(value: Any) -> None:
    text, left_out = source_json({"x": value, "none": None})
    assert not left_out
    json.loads(text)
    text.encode()


def test_a_rejected_row_keeps_its_source(tmp_path: Path) -> None:
    _, intake = taken(write(tmp_path / "p.csv", "prompt,id\n,7\n"))
    assert [row.source for row in intake.rejected] == ['{"id":"7"}']


def test_the_source_can_be_selected_by() -> None:
    from pipeline.dataset.schema import rejected_row, to_table
    from pipeline.export.select import _filter

    rows = [
        rejected_row(f"{n:020}", "c", "f:1", "demo", "r", "", source) | {"status": "ok"}
        for n, source in enumerate(['{"category":"x","n":"12"}', '{"category":"y"}', "", "odd"])
    ]
    found = _filter(to_table(rows), "source->>'category' = 'x' and (source->>'n')::int > 5", False)
    assert [row["source"] for row in found] == ['{"category":"x","n":"12"}']
