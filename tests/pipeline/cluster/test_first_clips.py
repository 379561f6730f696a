"""An actor makes its own first clips and waits for those of the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.calibration.measurement import FirstClips
from pipeline.cluster import first_clips as module
from pipeline.cluster.first_clips import FirstClipsHere
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.calibration.test_measurement import first_clips, measure, samples


class Ledger:
    """Knows which clips somebody has begun."""

    def __init__(self) -> None:
        self.begun: set[str] = set()

    def unbegun(self, sample_ids: Sequence[str]) -> list[str]:
        return [each for each in sample_ids if each not in self.begun]


class Maker:
    """Makes requests at once, and remembers what it was asked for."""

    def __init__(self, first: FirstClips, ledger: Ledger, fails: str = "") -> None:
        self.first, self.ledger, self.fails = first, ledger, fails
        self.calls: list[list[SampleRequest]] = []

    def __call__(self, requests: Sequence[SampleRequest]) -> list[dict[str, Any]]:
        self.calls.append(list(requests))
        rows = []
        for request in requests:
            self.ledger.begun.add(request.sample_id)
            failed = request.sample_id == self.fails
            if request.records and not failed:
                measure(self.first, request)
            rows.append(
                {
                    "sample_id": request.sample_id,
                    "status": "failed" if failed else "ok",
                    "error_type": "ValueError",
                    "error_message": "no",
                }
            )
        return rows


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.005)


def test_two_actors_make_one_profile_and_plan_all_others_with_it(storage: Storage) -> None:
    first, ledger = first_clips(storage), Ledger()
    waiting = samples(10)
    makers = [Maker(first, ledger), Maker(first, ledger)]
    rows: list[list[dict[str, Any]]] = [[], []]

    def work(index: int) -> None:
        own = [[each] for each in first.requests[index::2]]
        others = [[each] for each in waiting[index::2]]
        here = FirstClipsHere(first, ledger, makers[index], 60.0)
        units = [own[0], others[0], own[1], *others[1:]]  # rows come back in this order
        rows[index] = here.process(units)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = first.complete()
    assert done is not None
    settled = {done.settle([each])[0].sample_id for each in waiting}
    for index in range(2):
        ids = [row["sample_id"] for row in rows[index]]
        own = [each.sample_id for each in first.requests[index::2]]
        assert [ids[0], ids[2]] == own
        assert {ids[1], *ids[3:]} <= settled
        # The first clips one by one, all others in one go.
        assert [len(call) for call in makers[index].calls] == [1, 1, 5]


def test_a_failed_first_clip_is_a_row_and_no_measurement(storage: Storage) -> None:
    first, ledger = first_clips(storage, 2), Ledger()
    bad = first.requests[0]
    here = FirstClipsHere(first, ledger, Maker(first, ledger, fails=bad.sample_id), 60.0)
    rows = here.process([[each] for each in (*first.requests, samples(1)[0])])
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    own = first.complete()
    assert own is not None
    assert own.failed == (f"{bad.sample_id}: ValueError: no",)


def test_a_clip_that_nobody_begins_is_made_by_who_waits(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELP_AFTER_S", 0.0)
    first, ledger = first_clips(storage, 3), Ledger()
    maker = Maker(first, ledger)
    rows = FirstClipsHere(first, ledger, maker, 60.0).process([samples(1)])
    assert len(rows) == 1  # the rows of the others belong to their own task
    assert [call[0] for call in maker.calls[:-1]] == list(first.requests)


def test_a_clip_that_somebody_makes_for_too_long_is_left_out(storage: Storage) -> None:
    first, ledger = first_clips(storage, 2), Ledger()
    measure(first, first.requests[0])
    ledger.begun.add(first.requests[1].sample_id)
    here = FirstClipsHere(first, ledger, Maker(first, ledger), stalled_s=0.05)
    rows = here.process([samples(1)])
    own = first.complete()
    assert own is not None
    assert own.requests == first.requests[:1]
    assert "not made in time" in own.failed[0]
    assert rows[0]["sample_id"] == own.settle(samples(1))[0].sample_id
