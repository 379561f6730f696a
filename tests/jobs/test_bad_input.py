"""Whatever is handed in: a bad row is a rejected row, a bad file or field one clear line."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig, load_config
from pipeline.dataset.committed import Committed
from pipeline.errors import UserError
from pipeline.prompts.reader import READERS, read_source
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from tests.pipeline.requests.test_intake import DEFAULTS
from tests.property_examples import examples


def taken(path: Path) -> tuple[list[SampleRequest], list[str]]:
    """What a file's rows become: requests, and the reasons of the rejected ones."""
    intake = Intake(read_source(str(path)), DEFAULTS, Committed())
    made = list(intake)
    counts = intake.counts
    assert counts.read == len(made) + counts.duplicates + len(intake.rejected)
    for row in intake.rejected:
        assert row.message
        assert "\n" not in row.message
        row.caption.encode()  # fits an Arrow string
    return made, [row.message for row in intake.rejected]


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Let a refusal pass, if it is one line."""
    problem = ""
    try:
        yield
    except UserError as error:
        problem = str(error) or "\n"
    assert "\n" not in problem


def refusal(path: Path) -> str:
    """The one line of a file that cannot be read."""
    with pytest.raises(UserError) as caught:
        taken(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


JSONL = [
    ('{"prompt": "clip \\u0000"}', "NUL"),
    ('{"prompt": "\\ud800"}', "surrogate"),
    ('{"prompt": "' + "x" * 100_000 + '"}', "100,000 characters"),
    ('{"prompt": "' + "x" * (1 << 20) + '"}', "not valid JSON (it is longer than 1 MiB)"),
    ('{"prompt": "a", "width": -64}', "width is -64, outside 1 to"),
    ('{"prompt": "a", "width": 0}', "width is 0"),
    ('{"prompt": "a", "width": 65}', "not a multiple of 16: use 64 or 80"),
    ('{"prompt": "a", "num_frames": 10}', "use 9 or 13"),
    ('{"prompt": "a", "width": 1e400}', "inf"),
    ('{"prompt": "a", "width": NaN}', "nan"),
    ('{"prompt": "a", "width": 1' + "0" * 400 + "}", "outside"),
    ('{"prompt": "a", "width": "64"}', "not a whole number"),
    ('{"prompt": "a", "width": true}', "a bool"),
    ('{"prompt": "a", "width": [64]}', "a list"),
    ('{"prompt": "a", "seed": -1}', "seed is -1"),
    ('{"prompt": "a", "seed": 18446744073709551616}', "outside"),
    ('{"prompt": "a", "guidance_scale": "high"}', "not a number"),
    ('{"prompt": "a", "negative_prompt": 5}', "negative_prompt is an int"),
    ('{"prompt": {"text": "a"}}', "a dict"),
    ('{"prompt": null}', "prompt is empty"),
    ('{"prompt": "   "}', "prompt is empty"),
    ('{"caption": "another name"}', "prompt is missing: the object has no such field"),
    ("[1, 2]", "not a JSON object"),
    ('{"prompt": "cut', "not valid JSON"),
    ("[" * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize(("line", "reason"), JSONL, ids=[reason for _, reason in JSONL])
def test_a_bad_line_is_rejected_and_its_neighbours_are_made(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = written(tmp_path / "p.jsonl", f'{{"prompt": "before"}}\n{line}\n{{"prompt": "after"}}\n')
    made, rejected = taken(path)
    assert [request.prompt for request in made] == ["before", "after"]
    (message,) = rejected
    assert reason in message


@pytest.mark.parametrize(
    "prompt",
    [
        "🌆👩‍👩‍👧 emoji",
        "مرحبا \u202eعكس\u202c",
        "e\u0301 é",
        "<script>alert(1)</script>",
        "'; rm -rf / #",
        "../../x",
    ],
)
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".tsv", ".txt", ".parquet"])
def test_odd_text_is_just_text(tmp_path: Path, prompt: str, kind: str) -> None:
    path = tmp_path / f"p{kind}"
    text = {
        ".jsonl": json.dumps({"prompt": prompt}),
        ".csv": f'prompt\n"{prompt}"\n',
        ".tsv": f"prompt\n{prompt}\n",
        ".txt": prompt,
    }
    if kind == ".parquet":
        parquet(path, prompt=[prompt])
    else:
        written(path, text[kind])
    made, rejected = taken(path)
    assert rejected == []
    assert [request.prompt for request in made] == [prompt]
    assert made[0].sample_id.isalnum()  # the only thing that reaches a file name


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", b"", "holds no rows"),
        ("blank.txt", b"\n\n  \n", "holds no rows"),
        ("header.csv", b"prompt,seed\n", "holds no rows"),
        ("twice.csv", b"prompt,seed,seed\na,1,2\n", "'seed' is there twice"),
        ("none.csv", b"name\na\n", "no column 'prompt'"),
        (
            "semi.csv",
            b"prompt;seed\na;1\n",
            "no column 'prompt' (its cells are separated by ';': separate them by commas)",
        ),
        ("utf16.csv", "prompt\nä\n".encode("utf-16"), "UTF-16"),
        ("torn.parquet", b"PAR1 and no more", "not a Parquet file"),
        ("empty.parquet", b"", "not a Parquet file"),
        ("p.xlsx", b"PK", "unknown kind of file"),
        ("p.jsonl.gz", b"\x1f\x8b", "unknown kind of file"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    assert words in refusal(written(tmp_path / name, content))


def test_parquet_of_other_types(tmp_path: Path) -> None:
    made, rejected = taken(
        parquet(
            tmp_path / "p.parquet",
            prompt=pa.array([b"bytes", b"\xff"], pa.binary()),
        )
    )
    assert made == []
    assert len(rejected) == 2
    made, rejected = taken(
        parquet(
            tmp_path / "d.parquet",
            prompt=pa.array(["a", "b", None]).dictionary_encode(),
            width=pa.array([64.0, None, 64.5]),
            unknown=[[1], [2], [3]],
        )
    )
    assert [(r.prompt, r.width) for r in made] == [("a", 64), ("b", 64)]
    assert "prompt is empty" in rejected[0]


def test_files_of_a_folder_may_have_other_schemas(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", prompt=["a"], seed=pa.array([1], pa.int8()))
    parquet(tmp_path / "b.parquet", prompt=["b"], seed=["two"])
    parquet(tmp_path / "c.parquet", prompt=["c"])
    made, rejected = taken(tmp_path)
    assert [request.prompt for request in made] == ["a", "c"]
    assert rejected == ["seed is a str ('two'), not a whole number"]


@pytest.mark.slow
def test_a_bomb_of_rows_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), ["one and the same"])
    parquet(path, prompt=bomb)
    assert path.stat().st_size < 10_000
    tracemalloc.start()
    made, _ = taken(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made) == 1
    assert peak < 6e6  # all of its rows take 16 MB, those read at once 3


@given(content=st.binary(max_size=300), kind=st.sampled_from(sorted(READERS)))
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_rows_or_one_line(tmp_path: Path, content: bytes, kind: str) -> None:
    path = written(tmp_path / f"p{kind}", content)
    with in_one_line():
        taken(path)


CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())
LINES = st.lists(
    st.dictionaries(st.sampled_from(["prompt", "text", "seed", "width", "fps", "x", ""]), CELL)
    | CELL,
    min_size=1,
    max_size=6,
)


@given(lines=LINES)
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_rows_or_one_line(tmp_path: Path, lines: list[Any]) -> None:
    path = written(tmp_path / "p.jsonl", "\n".join(map(json.dumps, lines)))
    with in_one_line():
        taken(path)


FIELDS = sorted(RunConfig.model_fields)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@pytest.mark.slow
@given(given=st.dictionaries(st.sampled_from([*FIELDS, "unknown"]), VALUE, max_size=4))
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_settings_are_taken_or_one_line(tmp_path: Path, given: dict[str, Any]) -> None:
    path = written(tmp_path / "c.yaml", json.dumps({"prompts": "p", "output": "o", **given}))
    with in_one_line():
        load_config(["--config", str(path)])


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"a: [", b"- list", b"prompts: &a [*a]", b"\x00", b"a: !!python/object:os.x {}"],
)
def test_a_settings_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "c.yaml", content)
    with pytest.raises(UserError) as caught:
        load_config(["--config", str(path)])
    assert "\n" not in str(caught.value)
