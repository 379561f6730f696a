"""An intake that leaves out what is done against one that makes every row and request."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset.committed import Committed, Ids
from pipeline.prompts.prompt_file import SourceRow, source_row
from pipeline.prompts.reader import PromptRows, read_source
from pipeline.requests import intake as intake_module
from pipeline.requests.columns import ColumnUse
from pipeline.requests.intake import Intake
from pipeline.requests.packing import pack_first
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.streaming.head import HEAD_ROWS, HeadOfInput
from tests.pipeline.requests.test_intake import DEFAULTS, holding
from tests.property_examples import examples

CACHED = dataclasses.replace(
    DEFAULTS, template=dataclasses.replace(DEFAULTS.template, cache=CacheIdentity("planned", "{}"))
)
PROMPTS = st.sampled_from(
    ["a", "b", "c", "ü \n\\", "🌆", "", " ", "\u2003", "nan", "x\0y", "y" * 10_001, None]
)
COLUMNS = {
    "seed": st.sampled_from([None, None, 0, 1, -1, 2**62]),
    "float_seed": st.sampled_from([None, 1.0, float("nan")]),
    "width": st.sampled_from([None, None, 64, 65]),
    "guidance_scale": st.sampled_from([None, None, 1.0, float("nan")]),
    "negative_prompt": st.sampled_from([None, None, "bad", "None"]),
    "note": st.sampled_from([None, "kept"]),
}
ROWS = st.lists(st.tuples(PROMPTS, *COLUMNS.values()), min_size=1, max_size=24)


def outcome(intake: Intake) -> list[Any]:
    """All that an intake finds."""
    made = list(intake)
    columns = intake.columns
    columns.others.sort()
    counters = (columns.taken, columns.overruled, columns.kept, columns.left_out, columns.seen)
    counts = (intake.counts, intake.accepted, intake.handled, intake.steps, intake.reasons.causes)
    return [made, intake.rejected, intake.largest, *map(dict, counters[:4]), columns.seen, *counts]


@given(
    rows=ROWS,
    read=st.sets(st.sampled_from(sorted(COLUMNS))),
    explicit=st.sets(st.sampled_from(["seed", "width", "guidance_scale"])),
    copies=st.integers(1, 3),
    limit=st.none() | st.integers(1, 30),
    share=st.integers(1, 4),
    controls=st.sampled_from([0.0, 0.0, 0.5]),
    chosen=st.integers(0, 2),
)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
def test_it_gives_what_making_every_row_gives(
    tmp_path: Path,
    rows: list[tuple[Any, ...]],
    read: set[str],
    explicit: set[str],
    copies: int,
    limit: int | None,
    share: int,
    controls: float,
    chosen: int,
) -> None:
    names = ["prompt", *COLUMNS]
    cells = {name: [row[names.index(name)] for row in rows] for name in names}
    table = {name: cells[name] for name in ["prompt", *sorted(read)]}
    if "float_seed" in table:
        table["seed"] = table.pop("float_seed")
    given = pa.table({**table, "prompt": pa.array(cells["prompt"], pa.string())})
    path = tmp_path / "year=7" / "p.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(given, path)
    every = list(Intake(list(source(tmp_path)), CACHED, Committed(), copies))
    ids = [each.sample_id for each in every][::share]
    done = holding(*ids[1:], failed=tuple(ids[:1]))
    first = {
        bytes.fromhex(each.sample_id): dataclasses.replace(each, cache=CacheIdentity())
        for each in every[:chosen]
    }

    def intake(rows: PromptRows | list[SourceRow]) -> Intake:
        columns = ColumnUse(frozenset(explicit), frozenset({"note", "year"}))
        options = {"control_fraction": controls, "columns": columns, "first": first}
        return Intake(rows, CACHED, done, copies, limit, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake_module, "CHUNK_ROWS", 5 * copies)
        by_columns = outcome(intake(source(tmp_path)))
        by_rows = outcome(intake(list(source(tmp_path))))
        patch.setattr(Intake, "_skips_done", lambda intake: False)
        assert outcome(intake(source(tmp_path))) == by_columns == by_rows


def source(folder: Path) -> PromptRows:
    return read_source(str(folder))


def prompts(folder: Path, count: int) -> PromptRows:
    path = folder / "p.parquet"
    if not path.exists():
        pq.write_table(pa.table({"prompt": [f"p{n}" for n in range(count)]}), path)
    return read_source(str(path))


def requests_of(folder: Path, count: int) -> list[SampleRequest]:
    return list(Intake(prompts(folder, count), DEFAULTS, Committed()))


def test_a_row_whose_clip_is_done_is_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = requests_of(tmp_path, 600)
    done = holding(*(each.sample_id for each in made[2:]))
    keys: list[str] = []

    def noted(key: str, *args: Any, **settings: Any) -> SourceRow:
        keys.append(key)
        return source_row(key, *args, **settings)

    monkeypatch.setattr("pipeline.prompts.row_batch.source_row", noted)
    assert list(Intake(prompts(tmp_path, 600), DEFAULTS, done)) == made[:2]
    assert keys == ["p.parquet:1", "p.parquet:2"]


def test_text_that_is_not_utf8_spoils_its_row_only(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    for name, table in (
        ("prompt", pa.table({"prompt": bad})),
        ("note", pa.table({"prompt": ["a", "b", "c"], "note": bad})),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table, path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.prompts.reader.FEWEST_IN_COLUMNS", 1)
            intake = Intake(read_source(str(path)), DEFAULTS, Committed())
            assert [each.prompt for each in intake] == ["a", "c"]
        assert [each.source_key for each in intake.rejected] == [f"{name}.parquet:2"]


def test_the_limit_reads_no_further_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [f"p{n}" for n in range(300)]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"torn")
    intake = Intake(source(tmp_path), DEFAULTS, Committed(), limit=300)
    assert len(list(intake)) == 300
    assert [len(c) for c in source(tmp_path).chunks(200, 250)] == [200, 50]


def test_small_files_are_read_together_in_the_order_of_the_input(tmp_path: Path) -> None:
    for number, count in enumerate([3, 300, 2, 4]):
        table = pa.table({"prompt": [f"{number} {n}" for n in range(count)]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    chunks = list(source(tmp_path).chunks(1000))
    assert [len(each) for each in chunks] == [3, 300, 6]
    keys = [row.key for row in itertools.chain.from_iterable(chunks)]
    assert keys == [row.key for row in source(tmp_path)]


def test_the_first_clips_do_not_wait_for_rows_that_are_done(tmp_path: Path) -> None:
    count = 2 * HEAD_ROWS
    made = requests_of(tmp_path, count)
    done = Committed(Ids.of(bytes.fromhex(each.sample_id) for each in made[3:]).sorted())
    intake = Intake(prompts(tmp_path, count), DEFAULTS, done)
    head = HeadOfInput(intake)
    units = ([[request] for request in some] for some in intake.chunks())
    tables = pack_first(units, head.is_enough)
    assert sum(table.num_rows for table in tables) == 3
    assert head.ended_early
    assert intake.counts.read == HEAD_ROWS
    assert list(itertools.chain.from_iterable(units)) == []
    assert (intake.counts.read, intake.counts.done) == (count, count - 3)
