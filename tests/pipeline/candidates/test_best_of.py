"""Of several drafts the best is finished, the same one whenever a run is interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.candidates.best_of import make_best
from pipeline.candidates.drafts import DraftSettings, drafts_of
from pipeline.dataset.mp4 import row_json
from pipeline.dataset.schema import Provenance, Row, SampleOutcome, draft_key, make_row, to_table
from pipeline.requests.controls import control_for
from pipeline.requests.packing import recorded_twin
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.conditions import RowRank
from pipeline.storage.storage import Storage
from tests.pipeline.candidates.test_drafts import REQUEST

FOUR = DraftSettings(4, 0.16, "luck")
RANK = RowRank("luck", ("luck",))


class KilledError(Exception):
    """Stands for the end of the process."""


class Drafter:
    """Makes rows whose luck is given per draft, and stores drafts as a worker does."""

    def __init__(self, storage: Storage, luck: Sequence[float | None], after: int = 999) -> None:
        self.storage, self.luck, self.left = storage, luck, after
        self.made: list[tuple[str, int, bool]] = []

    def __call__(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        return [self.row(request) for unit in units for request in unit]

    def row(self, request: SampleRequest) -> Row:
        if not self.left:
            raise KilledError
        self.left -= 1
        self.made.append((request.prompt, request.candidate, bool(request.draft_of)))
        value = self.luck[request.candidate - 1]
        provenance = Provenance("r", "cpu", wall_s=0.5, group_size=2)
        row = make_row(request, provenance, SampleOutcome("ok"))
        row |= {"scores": [{"name": "luck", "value": value}]}
        if request.draft_of:
            data = row_json(row | {"video": None}).encode()
            self.storage.put_bytes(draft_key(request.sample_id), data)
        return row


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def finished(rows: Sequence[Row]) -> list[tuple[int, str]]:
    return [(row["candidate"], row["sample_id"]) for row in rows]


@pytest.mark.parametrize(
    ("luck", "best"),
    [
        ([0.1, 0.9, 0.5, 0.2], 2),
        ([0.7, 0.7, 0.1, 0.7], 1),  # of equal drafts the first
        ([None, None, 0.0, None], 3),  # a draft without a rank comes last
        ([None, None, None, None], 1),
        ([-3.0, -2.0, -1.0, -0.5], 4),
    ],
)
def test_the_draft_with_the_highest_rank_is_finished(
    storage: Storage, luck: list[float | None], best: int
) -> None:
    (row,) = make_best([[REQUEST]], Drafter(storage, luck), FOUR, RANK, storage)
    seed = drafts_of(REQUEST, FOUR)[best - 1].seed
    assert row["sample_id"] == dataclasses.replace(REQUEST, seed=seed).sample_id
    assert (row["candidate"], row["candidates"]) == (best, 4)
    assert [each["value"] for each in row["drafts"]] == luck
    assert [each["gpu_s"] for each in row["drafts"]] == [1.0] * 4  # 0.5 s of two devices
    assert to_table([row]).num_rows == 1


def test_drafts_of_all_clips_are_made_together_and_then_forgotten(storage: Storage) -> None:
    drafter, forgotten = Drafter(storage, [0.1, 0.2, 0.3, 0.4]), []
    units = [[dataclasses.replace(REQUEST, prompt=prompt)] for prompt in "ab"]
    calls: list[int] = []

    def make(some: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        calls.append(len(some))
        return drafter(some)

    rows = make_best(units, make, FOUR, RANK, storage, forget=forgotten.extend)
    assert calls == [8, 2]
    assert [row["caption"] for row in rows] == ["a", "b"]
    assert len(forgotten) == 8


@pytest.mark.parametrize("after", range(6))
def test_after_an_interruption_no_draft_is_made_twice_and_the_choice_is_the_same(
    storage: Storage, after: int
) -> None:
    luck = [0.2, 0.1, 0.8, 0.3]
    other = Storage(storage.uri + "/other")
    whole = make_best([[REQUEST]], Drafter(other, luck), FOUR, RANK, other)
    killed, again = Drafter(storage, luck, after), Drafter(storage, luck)
    rows: list[Row] = []
    try:
        rows = make_best([[REQUEST]], killed, FOUR, RANK, storage)
    except KilledError:
        rows = make_best([[REQUEST]], again, FOUR, RANK, storage)
    assert finished(rows) == finished(whole)
    assert rows[0]["drafts"] == whole[0]["drafts"]
    drafts = [each for each in killed.made + again.made if each[2]]
    assert len(drafts) == len(set(drafts)) == 4


def test_a_damaged_draft_is_made_again(storage: Storage) -> None:
    for draft in drafts_of(REQUEST, FOUR):
        storage.put_bytes(draft_key(draft.sample_id), b"{")
    drafter = Drafter(storage, [0.2, 0.1, 0.8, 0.3])
    make_best([[REQUEST]], drafter, FOUR, RANK, storage)
    assert len(drafter.made) == 5


def test_a_control_is_that_of_the_finished_clip(storage: Storage) -> None:
    unit = [REQUEST, control_for(REQUEST)]
    rows = make_best([unit], Drafter(storage, [0.1, 0.9, 0.0, 0.0]), FOUR, RANK, storage)
    assert rows[1]["control_of"] == rows[0]["sample_id"]
    assert rows[1]["seed"] == rows[0]["seed"] != REQUEST.seed


def test_clips_that_measure_a_profile_are_made_first_and_others_wait_for_it(
    storage: Storage,
) -> None:
    order: list[Any] = []
    drafter = Drafter(storage, [0.9, 0.1, 0.1, 0.1])

    def make(units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        order.append([unit[0].prompt for unit in units])
        return drafter(units)

    def settle(units: Sequence[Sequence[SampleRequest]]) -> list[list[SampleRequest]]:
        order.append("settled")
        return [list(unit) for unit in units]

    first = recorded_twin(dataclasses.replace(REQUEST, prompt="first"))
    rows = make_best([[REQUEST], [first]], make, FOUR, RANK, storage, settle=settle)
    assert order == [["first"], "settled", ["p"] * 4, ["p"]]
    assert [row["caption"] for row in rows] == ["first", "p"]


def test_a_control_whose_clip_is_finished_has_no_drafts(storage: Storage) -> None:
    drafter, control = Drafter(storage, [0.1, 0.9, 0.5, 0.2]), control_for(REQUEST)
    rows = make_best([[control], [REQUEST]], drafter, FOUR, RANK, storage)
    assert [row["control_of"] for row in rows] == [REQUEST.sample_id, ""]
    assert len(drafter.made) == 6


def test_a_draft_that_was_judged_otherwise_is_made_again(storage: Storage) -> None:
    luck = [0.2, 0.1, 0.8, 0.3]
    make_best([[REQUEST]], Drafter(storage, luck), FOUR, RANK, storage)
    for settings, rank, made in (
        (FOUR, RANK, 0),  # as before
        (FOUR, RowRank("grace", ("luck", "grace")), 4),  # by another score
        (dataclasses.replace(FOUR, frames=5), RANK, 4),  # on fewer frames
        (dataclasses.replace(FOUR, frames=17), RANK, 0),  # which are all
    ):
        drafter = Drafter(storage, luck)
        make_best([[REQUEST]], drafter, settings, rank, storage)
        assert sum(draft for _, _, draft in drafter.made) == made


def test_a_score_that_a_draft_could_not_be_given_is_not_tried_again(storage: Storage) -> None:
    drafter = Drafter(storage, [None] * 4)
    make_best([[REQUEST]], drafter, FOUR, RANK, storage)
    make_best([[REQUEST]], drafter, FOUR, RANK, storage)
    assert sum(draft for _, _, draft in drafter.made) == 4
