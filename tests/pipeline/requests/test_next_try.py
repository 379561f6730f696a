"""A clip that is not good gets another try, with another seed and an id of its own."""

from __future__ import annotations

import dataclasses

from pipeline.requests.controls import control_for
from pipeline.requests.packing import recorded_twin
from pipeline.requests.sample_request import SampleRequest
from pipeline.requests.seeds import copy_seed, next_try

FIRST = SampleRequest(
    "p", "n", "demo", "r", "S/3", 50, 4.0, 64, 64, 17, 8, 32, 3, candidates=4, source_key="f:1"
)


def tries(request: SampleRequest | None) -> list[SampleRequest]:
    found = []
    while request is not None:
        found.append(request)
        request = next_try(request)
    return found


def test_tries_differ_in_seed_and_number_alone() -> None:
    found = tries(FIRST)
    assert [each.candidate for each in found] == [1, 2, 3, 4]
    assert len({each.seed for each in found}) == len({each.sample_id for each in found}) == 4
    for each in found:
        assert dataclasses.replace(each, seed=3, candidate=1) == FIRST


def test_the_number_of_tries_changes_no_id() -> None:
    fewer = dataclasses.replace(FIRST, candidates=2)
    assert [each.sample_id for each in tries(fewer)] == [
        each.sample_id for each in tries(FIRST)[:2]
    ]
    assert dataclasses.replace(FIRST, candidates=1).sample_id == FIRST.sample_id
    assert SampleRequest.from_json(FIRST.to_json()) == FIRST


def test_tries_do_not_meet_the_copies_of_a_row() -> None:
    copies = {copy_seed(FIRST.seed, copy) for copy in range(100)}
    later = [each.seed for each in tries(dataclasses.replace(FIRST, candidates=100))[1:]]
    assert copies.isdisjoint(later)


def test_controls_and_first_clips_have_no_further_tries() -> None:
    assert next_try(control_for(FIRST)) is None
    assert next_try(recorded_twin(FIRST)) is None
    assert control_for(FIRST).sample_id == control_for(tries(FIRST)[0]).sample_id
