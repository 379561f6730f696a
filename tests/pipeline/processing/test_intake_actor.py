"""The intake of a Dataset finds what the intake of a file finds, however the rows are cut."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import Committed
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.errors import UserError
from pipeline.models.resolve import model_of
from pipeline.processing.intake_actor import FINAL_COLUMN, STORED_COLUMN, IntakeActor, opened
from pipeline.prompts.prompt_file import SourceRow
from pipeline.requests.controls import unpack
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.requests.packing import REQUEST_COLUMN
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.property_examples import examples

Rows = list[dict[str, Any]]


def actor(output: Path, **more: Any) -> IntakeActor:
    config = RunConfig(prompts="p", output=str(output), device="cpu", **more)
    storage = Storage(config.output)
    resolved = model_of(config)
    defaults = request_defaults(config, resolved, storage, measure=False)
    return IntakeActor(config, defaults, storage, "r2", resolved.spec)


def taken(of: IntakeActor, blocks: list[Rows]) -> tuple[list[SampleRequest], Rows]:
    """The requests and the final rows of some blocks of a Dataset."""
    requests, rows = [], []
    schema = pa.schema([("prompt", pa.string()), ("fps", pa.int64())])
    for block in blocks:
        for table in of(pa.Table.from_pylist(block, schema)):
            texts = [text for text in table[REQUEST_COLUMN].to_pylist() if text]
            requests += [each for text in texts for each in unpack(text)]
            parcels = table[FINAL_COLUMN].drop_null().to_pylist()
            rows += [row for parcel in parcels for row in opened(parcel).to_pylist()]
    return requests, rows


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.sampled_from([None, "", "one", "two", "three", " two "]),
            "fps": st.sampled_from([None, 8, 0]),
        }
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(rows=ROWS, cuts=st.sets(st.integers(1, 11)), copies=st.integers(1, 2))
def test_blocks_give_what_the_whole_input_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, cuts: set[int], copies: int
) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    blocks = [rows[low:high] for low, high in itertools.pairwise(edges)]
    folder = tmp_path_factory.mktemp("out")
    made = {"samples_per_prompt": copies, "control_fraction": 0.5}
    requests, finals = taken(actor(folder, **made), blocks)
    config = RunConfig(prompts="p", output=str(folder), device="cpu", **made)
    defaults = request_defaults(config, model_of(config), measure=False)
    whole = [SourceRow(f"dataset:{n}", row) for n, row in enumerate(rows, 1)]
    intake = Intake(whole, defaults, Committed(), copies, None, 0.5)
    assert requests == list(intake)
    assert [(row["sample_id"], row["source_key"]) for row in finals] == [
        (row.sample_id, row.source_key) for row in intake.rejected
    ]
    assert not any(row[STORED_COLUMN] for row in finals)


def test_rows_of_the_prefix_come_back_and_nothing_of_them_is_made(tmp_path: Path) -> None:
    rows: Rows = [
        {"prompt": text, "fps": 8} for text in ("one", "two", "", "three", "one", "", "four")
    ]
    requests, finals = taken(actor(tmp_path), [rows])
    assert [each.prompt for each in requests] == ["one", "two", "three", "four"]
    done = [
        make_row(each, Provenance("r1"), SampleOutcome(status))
        for each, status in zip(requests, ("ok", "failed", "ok"), strict=False)
    ]
    for row in finals:
        assert not row.pop(STORED_COLUMN)
    storage = Storage(str(tmp_path))
    parts = PartWriter(storage, "r1", part_rows=2, part_seconds=1e9)
    for row in (*done, *finals):
        parts.add(to_table([row]))
    parts.flush()

    left, known = taken(actor(tmp_path), [rows[:3], rows[3:]])
    assert left == [requests[3]]
    assert Counter(row["sample_id"] for row in known) == Counter(
        row["sample_id"] for row in (*done, *finals)
    )
    assert all(row[STORED_COLUMN] for row in known)
    assert {row["run_id"] for row in known} == {"r1", "r2"}
    again, _ = taken(actor(tmp_path, retry_failed=True), [rows])
    assert again == [requests[1], requests[3]]


def test_the_prefix_s_clips_of_other_settings_are_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: Rows = [{"prompt": "one", "fps": 8}, {"prompt": "two", "fps": 8}]
    run_id = "20260101T000000Z-first"
    before = RunConfig(prompts="p", output=str(tmp_path), sampling={"seed": 5}, device="cpu")
    requests, _ = taken(actor(tmp_path, sampling={"seed": 5}), [rows])
    parts = PartWriter(Storage(str(tmp_path)), run_id, part_rows=9, part_seconds=1e9)
    for request in requests:
        parts.add(to_table([make_row(request, Provenance(run_id), SampleOutcome("ok"))]))
    parts.flush()
    Manifest(run_id, before.to_dict(), {}).end(Storage(str(tmp_path)), "done", {})
    assert capsys.readouterr().err == ""

    taken(actor(tmp_path, sampling={"seed": 6}), [rows[:1], rows[1:]])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "This prefix holds clips of other settings: 2 of seed_u64 5 (this run: 6). They stay"
    )
    taken(actor(tmp_path, sampling={"seed": 6}, cache={"policy": "none"}), [rows])
    assert "other settings: 2 of demo planned " in capsys.readouterr().err
    taken(actor(tmp_path, sampling={"seed": 5}), [rows])
    assert capsys.readouterr().err == ""


def test_a_dataset_without_prompts_is_told_which_columns_it_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset: no column 'prompt'; .* one of: 'words'"):
        list(actor(tmp_path)(pa.table({"words": ["a"]})))


def test_the_candidate_that_was_chosen_comes_back(tmp_path: Path) -> None:
    drafts = {"best_of": 3, "select_by": "sharpness"}
    rows: Rows = [{"prompt": "one", "fps": 8}]
    (request,), _ = taken(actor(tmp_path, **drafts), [rows])
    from pipeline.candidates.drafts import candidates_of

    chosen = candidates_of(request, 3)[2]
    row = make_row(chosen, Provenance("r1"), SampleOutcome("ok"))
    parts = PartWriter(Storage(str(tmp_path)), "r1", part_rows=1, part_seconds=1e9)
    parts.add(to_table([row]))
    left, (known,) = taken(actor(tmp_path, **drafts), [rows])
    assert (left, known["sample_id"]) == ([], chosen.sample_id)
