"""An actor makes its own first clips and waits for those of the others."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.calibration.measurement import FirstClips
from pipeline.cluster import first_clips as module
from pipeline.cluster.first_clips import FirstClipsHere
from pipeline.cluster.ledger_actor import LedgerActor
from pipeline.dataset.schema import Row
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.calibration.test_measurement import first_clips, measure, samples

ALIVE = ("a", "b")


def here(
    first: FirstClips, ledger: LedgerActor, maker: Maker, stalled_s: float = 60.0, holder: str = "a"
) -> FirstClipsHere:
    return FirstClipsHere(first, ledger, maker, stalled_s, holder, ALIVE.__contains__)


@pytest.fixture
def ledger(storage: Storage) -> LedgerActor:
    return LedgerActor(storage, "run", max_attempts=3)


class Maker:
    """Makes requests at once, and remembers what it was asked for."""

    def __init__(self, first: FirstClips, fails: str = "", takes_s: float = 0.0) -> None:
        self.first, self.fails, self.takes_s = first, fails, takes_s
        self.calls: list[list[SampleRequest]] = []

    def __call__(self, requests: Sequence[SampleRequest]) -> list[dict[str, Any]]:
        self.calls.append(list(requests))
        rows = []
        for request in requests:
            if self.takes_s:
                time.sleep(self.takes_s)
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
    monkeypatch.setattr(module, "LOOK_FIRST_S", 0.005)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run functions at the same time, and return their results."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result() for each in [pool.submit(one) for one in work]]


def test_two_actors_make_one_profile_and_plan_all_others_with_it(
    storage: Storage, ledger: LedgerActor
) -> None:
    first = first_clips(storage)
    waiting = samples(10)
    makers = {name: Maker(first) for name in ALIVE}
    owned = {name: first.requests[index::2] for index, name in enumerate(ALIVE)}

    def work(name: str) -> list[Row]:
        own = [[each] for each in owned[name]]
        others = [[each] for each in waiting[list(ALIVE).index(name) :: 2]]
        units = [own[0], others[0], own[1], *others[1:]]  # rows come back in this order
        return here(first, ledger, makers[name], holder=name).process(units)

    rows = together(*(functools.partial(work, name) for name in ALIVE))
    done = first.complete()
    assert done is not None
    settled = {done.settle([each])[0].sample_id for each in waiting}
    for name, made in zip(ALIVE, rows, strict=True):
        ids = [row["sample_id"] for row in made]
        assert [ids[0], ids[2]] == [each.sample_id for each in owned[name]]
        assert {ids[1], *ids[3:]} <= settled
        # The first clips one by one, all others in one go.
        *recorded, last = makers[name].calls
        assert all(len(call) == 1 and call[0].records for call in recorded)
        assert len(last) == 5


@pytest.mark.slow
def test_an_actor_that_would_wait_makes_its_share(storage: Storage, ledger: LedgerActor) -> None:
    first = first_clips(storage, 4)
    makers = {name: Maker(first, takes_s=0.2) for name in ("a", "b")}
    units = [[each] for each in first.requests]  # Ray gave all of them to one
    rows, _ = together(
        lambda: here(first, ledger, makers["a"], holder="a").process(units),
        lambda: here(first, ledger, makers["b"], holder="b").process([samples(1)]),
    )
    assert [row["sample_id"] for row in rows] == [each.sample_id for each in first.requests]
    helped = [call[0] for call in makers["b"].calls[:-1]]
    assert helped == list(reversed(first.requests))[: len(helped)]
    assert 1 <= len(helped) <= 3
    # The owner asks for these too, at the end, and finds them stored.
    assert [call[0] for call in makers["a"].calls] == list(first.requests)


@pytest.mark.parametrize("waits", [True, False])
def test_a_clip_of_a_dead_actor_is_made_by_another(
    storage: Storage, ledger: LedgerActor, waits: bool
) -> None:
    first = first_clips(storage, 2)
    ids = [each.sample_id for each in first.requests]
    assert ledger.reserve(ids, "dead") == ids[0]
    maker = Maker(first)
    units = [samples(1)] if waits else [[each] for each in first.requests]
    assert len(here(first, ledger, maker).process(units)) == len(units)
    assert {call[0].sample_id for call in maker.calls if call[0].records} == set(ids)
    assert ledger.reserve(ids, "dead") == ""  # back to life


def test_a_restarted_actor_makes_what_it_had_begun(storage: Storage, ledger: LedgerActor) -> None:
    first = first_clips(storage, 2)
    ids = [each.sample_id for each in first.requests]
    assert ledger.reserve(ids[1:], "a") == ids[1]  # as a helper, before it died
    maker = Maker(first)
    here(first, ledger, maker, holder="a").process([samples(1)])
    assert [call[0].sample_id for call in maker.calls[:-1]] == [ids[1], ids[0]]


def test_of_two_tasks_of_an_actor_none_makes_a_clip_of_the_other(
    storage: Storage, ledger: LedgerActor
) -> None:
    first = first_clips(storage, 3)
    maker = Maker(first, takes_s=0.05)
    actor = here(first, ledger, maker)
    units = [[each] for each in first.requests]
    together(lambda: actor.process(units), lambda: actor.process([samples(1)]))
    recorded = [call[0].sample_id for call in maker.calls if call[0].records]
    assert set(recorded) == {each.sample_id for each in first.requests}
    found = len(recorded) - len(set(recorded))  # what one thread made, the other one finds
    assert found <= 2


def test_a_failed_first_clip_is_a_row_and_no_measurement(
    storage: Storage, ledger: LedgerActor
) -> None:
    first = first_clips(storage, 2)
    bad = first.requests[0]
    actor = here(first, ledger, Maker(first, fails=bad.sample_id))
    rows = actor.process([[each] for each in (*first.requests, samples(1)[0])])
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    own = first.complete()
    assert own is not None
    assert own.failed == (f"{bad.sample_id}: ValueError: no",)


def test_a_clip_that_somebody_makes_for_too_long_is_left_out(
    storage: Storage, ledger: LedgerActor
) -> None:
    first = first_clips(storage, 2)
    measure(first, first.requests[0])
    ledger.reserve([first.requests[1].sample_id], "b")
    rows = here(first, ledger, Maker(first), stalled_s=0.05).process([samples(1)])
    own = first.complete()
    assert own is not None
    assert own.requests == first.requests[:1]
    assert "not made in time" in own.failed[0]
    assert rows[0]["sample_id"] == own.settle(samples(1))[0].sample_id


def test_an_actor_looks_often_at_first_and_rarely_later(
    storage: Storage, ledger: LedgerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = first_clips(storage, 1)
    ledger.reserve([first.requests[0].sample_id], "b")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:  # now the other actor has made the clip
            measure(first, first.requests[0])

    monkeypatch.setattr(module, "LOOK_FIRST_S", 0.1)
    monkeypatch.setattr(module.time, "sleep", sleep)
    here(first, ledger, Maker(first)).process([samples(1)])
    assert waits[0] == 0.1
    assert waits == sorted(waits)
    assert waits[-1] == module.LOOK_LATER_S
    assert sum(waits[:5]) < 2.0  # a clip that is nearly done is seen at once
