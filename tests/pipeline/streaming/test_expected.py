"""What a run expects of an input that is read in part."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pipeline.dataset.committed import Committed, Ids
from pipeline.prompts.prompt_file import SourceRow, SourceSize
from pipeline.prompts.reader import read_source
from pipeline.requests import intake as intake_module
from pipeline.requests.intake import Intake
from pipeline.streaming.expected import expected
from tests.pipeline.requests.test_intake import DEFAULTS

ROWS = 400


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "parquet"])
def test_files_tell_how_many_rows_they_have_before_they_are_read(
    tmp_path: Any, suffix: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"p.{suffix}"
    prompts = [f"prompt {n:04}" for n in range(ROWS)]
    if suffix == "parquet":
        pq.write_table(pa.table({"prompt": prompts}), path)
    else:
        form = {"txt": "{}", "csv": "{}", "jsonl": '{{"prompt": "{}"}}'}[suffix]
        head = "prompt\n" if suffix == "csv" else ""
        path.write_text(head + "".join(form.format(p) + "\n" for p in prompts))
    rows = read_source(str(path))
    read = len(list(itertools.islice(rows, 100)))
    estimate = rows.size.expected(read)
    assert estimate is not None
    assert abs(estimate - ROWS) <= 0.02 * ROWS
    if suffix == "parquet":
        assert estimate == ROWS
    assert rows.size.expected(read + len(list(rows))) == ROWS


def test_many_files_are_taken_to_be_like_the_first(tmp_path: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in range(20):
        prompts = [f"prompt {part} {n}" for n in range(50)]
        pq.write_table(pa.table({"prompt": prompts}), tmp_path / f"{part:02}.parquet")
    rows = read_source(str(tmp_path))
    estimate = rows.size.expected(1)
    assert estimate is not None
    assert abs(estimate - 1000) <= 50


@pytest.mark.parametrize("limit", [None, 50])
def test_what_is_left_follows_from_the_rows_so_far_and_from_what_is_done(
    monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    monkeypatch.setattr(intake_module, "CHUNK_ROWS", 10)
    rows = [SourceRow(f"p:{n}", {"prompt": f"p{n // 2}"}) for n in range(100)]  # each twice
    made = list(Intake(rows, DEFAULTS, Committed(), 2))
    done = Ids.from_bytes(b"".join(bytes.fromhex(each.sample_id) for each in made[60:70]))
    intake = Intake(iter(rows), DEFAULTS, Committed(done.sorted()), 2, limit)
    size = SourceSize(total_bytes=1000, read_bytes=1000, rows=100)
    wanted = (limit or 100) - 10
    requests = iter(intake)
    for _ in range(8):
        next(requests)
    early = expected(intake, size, is_read=False)
    assert (early.is_exact, early.rows) == (False, limit or 100)
    assert abs(early.requests - wanted) <= 16
    list(requests)
    late = expected(intake, size, is_read=True)
    left = (limit or 100) - (10 if limit is None else 0)
    assert (late.is_exact, late.requests, late.rows) == (True, left, limit or 100)
