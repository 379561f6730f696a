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
from pipeline.errors import UserError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.reader import read_source
from pipeline.requests.columns import MAX_SOURCE_CHARS, ColumnUse, source_json
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest

BASE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 64, 64, 9, 8, 32, 0)
DEFAULTS = RequestDefaults(BASE, None, SizeRules(8, 4))
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
        SizeRules(8, 4),
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
        "not read as files, for this model takes none there: video (2 rows)",
        "kept in the column source: video, aesthetic score, camera motion, frame, seconds, new_id",
    ]


def test_a_column_that_is_nearly_a_setting_is_pointed_out(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "prompt,sed,Num Frames,topic\na red circle,5,17,shapes\n")
    requests, intake = taken(path)
    assert json.loads(requests[0].source) == {"sed": "5", "Num Frames": "17", "topic": "shapes"}
    assert list(intake.columns.lines()) == [
        "columns that are not settings but are written much like one: sed (seed?), "
        "Num Frames (num_frames?)",
        "kept in the column source: sed, Num Frames, topic",
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
    with pytest.raises(UserError, match=r"a column sead \(did you mean seed\?\); .* prompt, seed"):
        taken(write(tmp_path / "p.csv", "prompt,seed\na,5\n"), "--columns=prompt,sead")


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


def test_the_source_can_be_selected_by(tmp_path: Path) -> None:
    from pipeline.dataset.schema import rejected_row
    from pipeline.export.select import select
    from tests.pipeline.report.made import write as write_rows

    rows = [
        rejected_row(f"{n:020}", "c", "f:1", "demo", "r", "", source) | {"status": "ok"}
        for n, source in enumerate(['{"category":"x","n":"12"}', '{"category":"y"}', "", "odd"])
    ]
    where = "source->>'category' = 'x' and (source->>'n')::int > 5"
    storage = write_rows(tmp_path, rows)
    with select(storage, where=where, splits={"train": 1.0}, shard_rows=5) as found:
        (shard,) = found.shards
        assert [row["source"] for row in shard.rows()] == ['{"category":"x","n":"12"}']


def test_lone_quotes_of_a_tsv_are_text(tmp_path: Path) -> None:
    text = (
        'prompt\tseed\n"Open" neon sign\t1\n"once upon a time\t2\na dog runs\t3\n'
        'he said "hello"\t4\n"to be or not\t5\nthe end"\t6\n"a ""quoted"" one"\t7\n'
        '"with a\ttab"\t8\n5" screen\t9\nthree\tcells\there\n"two\nlines"\t10\na fish\t11\n'
        '"open\nfish\t12\n'
    )
    requests, intake = taken(write(tmp_path / "p.tsv", text))
    assert [(r.prompt, r.seed) for r in requests] == [
        ('"Open" neon sign', 1),
        ('"once upon a time', 2),
        ("a dog runs", 3),
        ('he said "hello"', 4),
        ('"to be or not', 5),
        ('the end"', 6),
        ('a "quoted" one', 7),
        ("with a\ttab", 8),
        ('5" screen', 9),
        ("two\nlines", 10),
        ("a fish", 11),
        ("fish", 12),
    ]
    assert [row.source_key for row in intake.rejected] == ["p.tsv:10", "p.tsv:13"]
    text = 'seed\tprompt\n1\t"two\nlines"\n2\t"open\n3\tb\n4\t"c"\n'
    requests, _ = taken(write(tmp_path / "q.tsv", text))
    assert prompts(requests) == ["two\nlines", '"open', "b", "c"]


def test_an_open_quote_of_a_csv_costs_its_own_row_only(tmp_path: Path) -> None:
    text = 'prompt,seed\n"once upon a time,1\na dog,2\nsay "hi",3\n"two\nlines",4\n"a "b",5\nc,6\n'
    requests, intake = taken(write(tmp_path / "p.csv", text))
    assert [(r.prompt, r.seed) for r in requests] == [
        ("a dog", 2),
        ('say "hi"', 3),
        ("two\nlines", 4),
        ("c", 6),
    ]
    assert [(row.source_key, row.caption) for row in intake.rejected] == [
        ("p.csv:1", '"once upon a time,1'),
        ("p.csv:5", '"a "b",5'),
    ]


def test_quotes_that_spark_escaped_by_backslashes_are_read(tmp_path: Path) -> None:
    text = (
        'prompt,seed\n"a sign that says \\"open\\", neon",1\n"screen of 5\\"",2\nplain,3\n'
        '"tv of 55\\"",4\n"last, one",5\n"C:\\",6\n"a\nnew \\"line\\" and C:\\new\\\\",7\n'
    )
    rows = read_source(str(write(tmp_path / "p.csv", text)))
    assert [(row.values["prompt"], row.values["seed"], row.problem) for row in rows] == [
        ('a sign that says "open", neon', 1, ""),
        ('screen of 5"', 2, ""),
        ("plain", 3, ""),
        ('tv of 55"', 4, ""),
        ("last, one", 5, ""),
        ("C:\\", 6, ""),
        ('a\nnew "line" and C:\\new\\', 7, ""),
    ]
    assert rows.notes.lines() == ["rows whose quotes are escaped by backslashes: 4"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a red circle\ra blue square\r"),
        ("p.csv", 'prompt\r"a red circle"\ra blue square\r'),
        ("p.jsonl", '{"prompt": "a red circle"}\r{"prompt": "a blue square"}'),
    ],
)
def test_carriage_returns_end_lines(tmp_path: Path, name: str, text: str) -> None:
    requests, _ = taken(write(tmp_path / name, text))
    assert prompts(requests) == ["a red circle", "a blue square"]


def test_columns_without_a_name_of_their_own_are_kept(tmp_path: Path) -> None:
    (request,), _ = taken(write(tmp_path / "p.csv", ",prompt,note,note\n0,a,x,y\n"))
    assert json.loads(request.source) == {"column_1": "0", "note": "x", "note_": "y"}


def parquet(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_two_stars_cross_folders_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    for name in ("top", "a/x", "a/b/y", "a/_temporary/0/part-0", ".ipynb_checkpoints/x", "a/._x"):
        parquet(tmp_path / f"{name}.parquet", prompt=[name])
    write(tmp_path / "_SUCCESS", "")
    write(tmp_path / "a" / "notes.md", "x")
    for pattern, names in {
        "": ["a/b/y", "a/x", "top"],
        "/**": ["a/b/y", "a/x", "top"],
        "/**/*.parquet": ["a/b/y", "a/x", "top"],
        "/a/**/*.parquet": ["a/b/y", "a/x"],
        "/*/*.parquet": ["a/x"],
        "/**/b/*": ["a/b/y"],
        "/.ipynb*/*": [".ipynb_checkpoints/x"],
    }.items():
        rows = read_source(f"{tmp_path}{pattern}")
        assert [row.values["prompt"] for row in rows] == names, pattern
    rows = read_source(str(tmp_path))
    list(rows)
    assert rows.notes.lines() == [
        "hidden or unfinished files: 4, e.g. .ipynb_checkpoints/x.parquet",
        "files that are not .parquet: 1, e.g. a/notes.md",
    ]


def test_folders_of_hive_become_columns(tmp_path: Path) -> None:
    parquet(tmp_path / "fps=24" / "kind=a%20cat" / "p.parquet", prompt=["a"])
    parquet(tmp_path / "fps=4" / "kind=__HIVE_DEFAULT_PARTITION__" / "p.parquet", prompt=["b"])
    requests, _ = taken(tmp_path)
    assert [(r.prompt, r.fps, r.source) for r in requests] == [
        ("a", 24, '{"kind":"a cat"}'),
        ("b", 4, ""),
    ]


def test_empty_files_do_not_refuse_the_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", prompt=pa.array([], pa.null()))
    parquet(tmp_path / "b.parquet", other=pa.array([], pa.int8()))
    write(tmp_path / "c.parquet", "")
    parquet(tmp_path / "d.parquet", prompt=["a"])
    rows = read_source(str(tmp_path))
    assert [row.values["prompt"] for row in rows] == ["a"]
    assert rows.notes.lines() == [
        "empty files: 1, e.g. c.parquet",
        "files without rows: 2, e.g. a.parquet",
    ]


def test_the_output_of_earlier_runs_is_no_input(tmp_path: Path) -> None:
    parquet(tmp_path / "p.parquet", prompt=["a"])
    write(tmp_path / "clips" / "runs" / "20260131T235959Z-1a2b3c.json", "{}")
    parquet(tmp_path / "clips" / "data" / "part-1.parquet", caption=["a"])
    parquet(tmp_path / "clips" / "metadata.parquet", caption=["a"])
    rows = read_source(str(tmp_path))
    assert [row.values["prompt"] for row in rows] == ["a"]
    assert rows.notes.lines()[0].startswith("files that earlier runs or exports have written: 2")
    with pytest.raises(UserError, match="or an export; name its folder data/"):
        read_source(str(tmp_path / "clips"))


def test_an_export_is_no_input(tmp_path: Path) -> None:
    parquet(tmp_path / "p.parquet", prompt=["a"])
    write(tmp_path / "hub" / "export.json", "{}")
    parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", caption=["a"], prompt=["b"])
    rows = read_source(str(tmp_path))
    assert [row.values["prompt"] for row in rows] == ["a"]
    assert rows.notes.lines()[0].startswith("files that earlier runs or exports have written: 1")


def test_a_line_that_cannot_be_read_shows_no_credentials(tmp_path: Path) -> None:
    line = '{"prompt": "a", "image": "https://me:hunter2@host/i.png?X-Amz-Signature=abcdef0123"'
    _, intake = taken(write(tmp_path / "p.jsonl", line))
    (rejected,) = intake.rejected
    assert "hunter2" not in rejected.caption
    assert "abcdef0123" not in rejected.caption
    assert rejected.caption.startswith('{"prompt": "a", "image": "https://')


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "p.parquet", prompt=["a"])
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert [row.key for row in read_source(str(tmp_path / "in"))][:1] == ["p.parquet:1"]
    assert len(list(read_source(str(tmp_path / "in")))) == 1
