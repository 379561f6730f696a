"""Prompts in, from files as people and tools really write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.prompts.parquet import BATCH_ROWS
from pipeline.prompts.prompt_file import MAX_LINE_BYTES, SourceRow
from pipeline.prompts.reader import read_source
from pipeline.storage.storage import Storage
from tests.property_examples import examples

Write = Callable[[str, bytes | str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes | str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


def read(uri: str, column: str = "prompt") -> list[SourceRow]:
    return list(read_source(uri, column))


def refusal(uri: str, column: str = "prompt") -> str:
    with pytest.raises(UserError) as caught:
        read(uri, column)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_text(write: Write) -> None:
    uri = write("p.txt", "\ufeffa red fox\r\n\r\n  ein Füchslein \nlast, no newline")
    assert read(uri) == [
        SourceRow("p.txt:1", {"prompt": "a red fox"}),
        SourceRow("p.txt:3", {"prompt": "ein Füchslein"}),
        SourceRow("p.txt:4", {"prompt": "last, no newline"}),
    ]


def test_csv(write: Write) -> None:
    uri = write(
        "p.csv",
        "\ufeffprompt,seed,guidance_scale,note,negative_prompt\r\n"
        '"a fox, red",7,,x,\r\n'
        "\r\n"
        '"two\nlines",,5.5,,dog\r\n'
        "odd,seven,1e1,,\r\n",
    )
    assert read(uri) == [
        SourceRow(
            "p.csv:1",
            {"prompt": "a fox, red", "seed": 7, "guidance_scale": None, "negative_prompt": None},
            other={"note": "x"},
        ),
        SourceRow(
            "p.csv:2",
            {"prompt": "two\nlines", "seed": None, "guidance_scale": 5.5, "negative_prompt": "dog"},
            other={"note": None},
        ),
        SourceRow(
            "p.csv:3",
            {"prompt": "odd", "seed": "seven", "guidance_scale": 10.0, "negative_prompt": None},
            other={"note": None},
        ),
    ]


def test_tsv(write: Write) -> None:
    assert read(write("p.TSV", "seed\tprompt\n1\ta, b\n")) == [
        SourceRow("p.TSV:1", {"prompt": "a, b", "seed": 1})
    ]


def test_csv_rows_that_cannot_be_read(write: Write) -> None:
    uri = write(
        "p.csv",
        b'prompt,seed\ngood,1\na, b,1\nshort\nbad \xff,1\n"x"y,1\ngood again,2\n"never closed,3\n',
    )
    rows = read(uri)
    assert [(row.key, row.problem.split(":")[0]) for row in rows] == [
        ("p.csv:1", ""),
        ("p.csv:2", "has 3 cells where the header has 2"),
        ("p.csv:3", "has 1 cell where the header has 2"),
        ("p.csv:4", "holds text that is not valid UTF-8"),
        ("p.csv:5", "the row is not valid CSV"),
        ("p.csv:6", ""),
        ("p.csv:7", "the row is not valid CSV"),
    ]
    assert rows[1].problem.endswith("put quotes round text that holds a comma")
    assert rows[1].values == {"prompt": "a, b,1"}
    assert rows[5].values == {"prompt": "good again", "seed": 2}
    assert rows[3].values == {"prompt": "bad \ufffd,1"}
    assert rows[4].values == {"prompt": '"x"y,1'}


def test_jsonl(write: Write) -> None:
    lines = [
        '{"prompt": "a", "seed": 3, "extra": [1]}',
        "",
        "{broken",
        "[1, 2]",
        '{"text": "no prompt here"}',
        "[" * 100_000,
        '{"prompt": null, "width": 1.5}',
    ]
    rows = read(write("p.jsonl", "\r\n".join(lines).encode() + b'\n{"prompt": "\xff"}\n'))
    assert rows[0] == SourceRow("p.jsonl:1", {"prompt": "a", "seed": 3}, other={"extra": [1]})
    assert rows[-2] == SourceRow("p.jsonl:7", {"prompt": None, "width": 1.5})
    assert [(row.key, row.problem) for row in rows if row.problem] == [
        ("p.jsonl:3", "the line is not valid JSON"),
        ("p.jsonl:4", 'the line is not a JSON object: write {"prompt": ...}'),
        ("p.jsonl:5", "prompt is missing: the object has no such field"),
        ("p.jsonl:6", "the line is not valid JSON"),
        ("p.jsonl:8", "the line is not valid UTF-8"),
    ]
    assert rows[1].values == {"prompt": "{broken"}


def test_parquet(tmp_path: Path) -> None:
    uri = parquet(
        tmp_path / "p.parquet",
        {"id": [1, 2], "prompt": ["a", None], "seed": pa.array([None, 5], pa.int64())},
    )
    assert read(uri) == [
        SourceRow("p.parquet:1", {"prompt": "a", "seed": None}, other={"id": 1}),
        SourceRow("p.parquet:2", {"prompt": None, "seed": 5}, other={"id": 2}),
    ]


def test_parquet_streams_over_batches_and_row_groups(tmp_path: Path) -> None:
    texts = [f"prompt {i}" for i in range(2 * BATCH_ROWS + 500)]
    uri = parquet(tmp_path / "p.parquet", {"prompt": texts}, row_group_size=700)
    rows = read(uri)
    assert [row.values["prompt"] for row in rows] == texts
    assert [rows[0].key, rows[-1].key] == ["p.parquet:1", f"p.parquet:{len(texts)}"]


def test_parquet_text_that_is_not_utf8_spoils_its_row_only(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    rows = read(parquet(tmp_path / "p.parquet", {"prompt": bad, "seed": [1, 2, 3]}))
    assert [(row.values, row.problem) for row in rows] == [
        ({"prompt": "a", "seed": 1}, ""),
        ({}, "holds text that is not valid UTF-8"),
        ({"prompt": "c", "seed": 3}, ""),
    ]


def test_parquet_folder_and_pattern(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "b.parquet", {"prompt": ["b"]})
    parquet(tmp_path / "in" / "a.parquet", {"prompt": ["a"]})
    parquet(tmp_path / "in" / "deep" / "c.parquet", {"prompt": ["c"]})
    (tmp_path / "in" / "_SUCCESS").touch()
    keys = ["a.parquet:1", "b.parquet:1", "deep/c.parquet:1"]
    assert [row.key for row in read(f"{tmp_path}/in")] == keys
    assert [row.key for row in read(f"{tmp_path}/in/")] == keys
    assert [row.key for row in read(f"{tmp_path}/in/[ab].parquet")] == keys[:2]
    assert [row.key for row in read(f"{tmp_path}/in/*/c*.parquet")] == keys[2:]
    parquet(tmp_path / "odd[1].parquet", {"prompt": ["d"]})
    assert [row.key for row in read(f"{tmp_path}/odd[1].parquet")] == ["odd[1].parquet:1"]


def test_other_stores(tmp_path: Path) -> None:
    Storage(f"memory://{tmp_path}").put_bytes("in/p.csv", b"prompt\na\n")
    table = parquet(tmp_path / "p.parquet", {"prompt": ["b"]})
    Storage(f"memory://{tmp_path}").put_file("in/p.parquet", table)
    assert read(f"memory://{tmp_path}/in/p.csv")[0].values == {"prompt": "a"}
    assert read(f"memory://{tmp_path}/in/*.parquet")[0].values == {"prompt": "b"}


@pytest.mark.parametrize("column", ["prompt", "caption", "text"])
def test_the_default_column_falls_back(tmp_path: Path, write: Write, column: str) -> None:
    expected = [{"prompt": "a", "seed": 1}]
    for uri in (
        write("p.csv", f"seed,{column}\n1,a\n"),
        write("p.jsonl", json.dumps({"seed": 1, column: "a"})),
        parquet(tmp_path / "p.parquet", {"seed": [1], column: ["a"]}),
    ):
        source = read_source(uri)
        assert [row.values for row in source] == expected
        name = uri.rpartition("/")[2]
        assert source.notes.lines() == (
            []
            if column == "prompt"
            else [
                f"files without a column 'prompt', whose prompts are in {column!r}: 1, e.g. {name}"
            ]
        )


def test_a_named_column_wins_and_does_not_fall_back(write: Write) -> None:
    uri = write("p.csv", "prompt,title\na,b\n")
    assert read(uri, "title") == [SourceRow("p.csv:1", {"prompt": "b"}, other={"prompt": "a"})]
    uri = write("q.csv", "caption,title\na,b\n")
    assert refusal(uri, "headline") == (
        f"{uri}: no column 'headline'; set --prompt-column to one of: 'caption', 'title'"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", b"", "holds no rows"),
        ("p.csv", b"prompt\n", "holds no rows"),
        (
            "p.csv",
            b"titel;seed\nx;1\n",
            "no column 'prompt' (its cells are separated by ';': separate them by commas)",
        ),
        ("p.csv", b"id, Prompts\n1,a\n", "no column 'prompt' (did you mean 'Prompts'?); set"),
        ("p.csv", b"prompt,seed,seed\na,1,2\n", "column 'seed' is there twice; keep one"),
        ("p.csv", "prompt\nä\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("p.jsonl", b"\n\n", "holds no rows"),
        (
            "p.jsonl",
            b'{"a": 1, "b": 2}\n',
            "no column 'prompt'; set --prompt-column to one of: 'a', 'b'",
        ),
        ("p.txt", b" \n", "holds no rows"),
        ("p.parquet", b"PAR1 not really", "not a Parquet file, or a damaged one"),
        ("p.parquet", b"", "not a Parquet file, or a damaged one"),
        ("p.xlsx", b"PK", "unknown kind of file; use one of .parquet, .jsonl"),
        ("prompts", b"a\n", "unknown kind of file"),
        ("in/notes.md", None, "holds no .parquet file"),
        ("absent-*.parquet", None, "no file matches absent-*.parquet in "),
    ],
)
def test_unusable_files_are_refused_at_once(
    write: Write, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if name == "in/notes.md":
        write(name, "")
        name = "in"
    uri = str(tmp_path / name) if content is None else write(name, content)
    text = refusal(uri)
    assert text.startswith(f"{uri}: ")
    assert words in text
    with pytest.raises(UserError):
        read_source(uri)  # before any row is asked for


def test_a_text_file_has_no_column_to_name(write: Write) -> None:
    uri = write("p.txt", "a\n")
    assert refusal(uri, "caption") == (
        f"{uri}: --prompt-column caption: a text file has no columns; leave it out"
    )


def test_a_source_that_is_not_there_is_told_from_what_is_near_it(
    write: Write, tmp_path: Path
) -> None:
    right = "name a file, or a folder or pattern of .parquet files"
    at, absent = str(tmp_path), str(tmp_path / "captions.csv")
    assert refusal(absent) == f"{absent}: not found in {at}; {right}"
    for number in range(6):
        write(f"p{number}.csv", "")
    write("notes.md", "")
    four = "p0.csv, p1.csv, p2.csv, p3.csv, p4.csv and 1 more"
    assert refusal(absent) == f"{absent}: not found in {at}, which holds {four}; {right}"
    write("caption.csv", "")
    assert refusal(absent) == f"{absent}: not found (did you mean caption.csv?); {right}"
    deep = str(tmp_path / "deep/p.csv")
    assert refusal(deep) == f"{deep}: not found, for there is no folder {at}/deep; {right}"
    (tmp_path / "deep").mkdir()
    assert refusal(f"{at}/deep") == f"{at}/deep: is an empty folder; {right}"


def test_a_parquet_file_without_rows_or_column_is_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "p.parquet", {"prompt": pa.array([], pa.string())})
    assert "holds no rows; give it at least one prompt" in refusal(uri)
    uri = parquet(tmp_path / "q.parquet", {"id": [1], "title": ["x"]})
    assert refusal(uri).endswith("set --prompt-column to one of: 'id', 'title'")


def test_a_damaged_later_file_is_named(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"prompt": ["a"]})
    (tmp_path / "b.parquet").write_bytes(b"torn")
    rows = read_source(str(tmp_path))
    assert next(rows).key == "a.parquet:1"
    with pytest.raises(UserError, match=r"b\.parquet: not a Parquet file"):
        next(rows)


def test_a_huge_line_does_not_fill_memory(write: Write) -> None:
    huge = b"x" * (3 * MAX_LINE_BYTES)
    rows = read(
        write("p.jsonl", b'{"prompt": "a"}\n{"prompt": "' + huge + b'"}\n{"prompt": "b"}\n')
    )
    assert [row.key for row in rows] == ["p.jsonl:1", "p.jsonl:2", "p.jsonl:3"]
    assert rows[1].problem == "the line is not valid JSON (it is longer than 1 MiB)"
    assert len(rows[1].values["prompt"]) <= MAX_LINE_BYTES
    rows = read(write("p.txt", b"a\n" + huge + b"\nb\n"))
    assert [(row.key, bool(row.problem)) for row in rows] == [
        ("p.txt:1", False),
        ("p.txt:2", True),
        ("p.txt:3", False),
    ]
    rows = read(write("p.csv", b"prompt\na\n" + huge + b"\nb\n"))
    assert [bool(row.problem) for row in rows] == [False, True, False]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30)


@given(
    rows=st.lists(
        st.tuples(TEXT, st.none() | st.integers(-(2**70), 2**70), st.none() | TEXT), min_size=1
    )
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_csv_and_jsonl_hold_what_was_written(
    tmp_path: Path, rows: list[tuple[str, int | None, str | None]]
) -> None:
    names = ("prompt", "seed", "negative_prompt")
    with (tmp_path / "p.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([names, *rows])
    with (tmp_path / "p.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")
    found = read(str(tmp_path / "p.jsonl"))
    assert [tuple(row.values[name] for name in names) for row in found] == rows
    found = read(str(tmp_path / "p.csv"))
    given = [(text or None, seed, negative or None) for text, seed, negative in rows]
    assert [tuple(row.values[name] for name in names) for row in found] == given
    assert not any(row.problem for row in found)
