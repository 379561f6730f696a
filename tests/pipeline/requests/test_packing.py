"""Requests are packed whole, and the first clips are chosen by content and put in front."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.requests import packing
from pipeline.requests.controls import content_digest, control_for, unpack
from pipeline.requests.packing import (
    REQUEST_COLUMN,
    FirstChoice,
    pack_rest,
    pack_tables,
    with_first,
)
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity, SampleRequest

WAITING = CacheIdentity("planned", "{}", UNMEASURED)
SAMPLE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0, WAITING)


def samples(count: int) -> list[SampleRequest]:
    return [dataclasses.replace(SAMPLE, seed=seed) for seed in range(count)]


def unpacked(tables: list) -> list[list[SampleRequest]]:  # type: ignore[type-arg]
    return [unpack(text) for table in tables for text in table[REQUEST_COLUMN].to_pylist()]


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 7), st.randoms())
def test_the_smallest_contents_are_chosen_and_all_others_stay(
    count: int, wanted: int, block: int, order: random.Random
) -> None:
    requests = samples(count)
    order.shuffle(requests)
    choice = FirstChoice(wanted, SAMPLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_ROWS", block)
        tables = pack_tables(requests, choice)
    chosen = sorted(requests, key=content_digest)[:wanted]
    made = choice.recorded()
    assert {each.seed for each in made} == {each.seed for each in chosen}
    assert all(each.records and each.cache == CacheIdentity() for each in made)
    assert unpacked(tables) == [[each] for each in requests if each not in chosen]
    assert sorted(each.sample_id for each in made) == [each.sample_id for each in made]


def test_a_chosen_clip_takes_its_control_along_and_rows_of_other_settings_are_not_chosen() -> None:
    other = dataclasses.replace(SAMPLE, seed=7, num_inference_steps=5)
    units = [each for sample in samples(3) for each in (sample, control_for(sample))]
    choice = FirstChoice(9, SAMPLE)
    tables = pack_tables([*units, other], choice)
    assert unpacked(tables) == [[other]]
    assert sorted(each.sample_id for each in choice.left_out()) == sorted(
        each.sample_id for each in units
    )


@given(st.integers(0, 60), st.integers(0, 6))
def test_first_clips_come_first_and_nothing_is_lost(count: int, first: int) -> None:
    recorded = [dataclasses.replace(each, prompt="first", records=True) for each in samples(first)]
    units = unpacked(with_first(pack_tables(samples(count)), recorded))
    assert units == [[each] for each in [*recorded, *samples(count)]]


@pytest.mark.parametrize(
    ("requests", "chosen"), [(3, 3), (8, 4), (124, 4), (125, 5), (399, 15), (400, 16), (999, 16)]
)
def test_larger_runs_make_more_first_clips_within_one_in_25(requests: int, chosen: int) -> None:
    choice = FirstChoice(None, SAMPLE)
    tables = pack_tables(samples(requests), choice)
    made = choice.recorded()
    assert len(made) == len(choice.left_out()) == chosen
    assert sum(table.num_rows for table in tables) == requests - chosen
    by_content = sorted(samples(requests), key=content_digest)[:chosen]
    assert {each.seed for each in made} == {each.seed for each in by_content}


def test_an_earlier_choice_does_not_grow_with_the_input() -> None:
    before = FirstChoice(None, SAMPLE)
    pack_tables(samples(10), before)
    fixed = frozenset(content_digest(each) for each in before.recorded())
    after = FirstChoice(len(fixed), SAMPLE, fixed)
    pack_tables(samples(500), after)
    assert after.recorded() == before.recorded()


def test_clips_that_were_chosen_before_are_chosen_again_whatever_else_there_is() -> None:
    before = FirstChoice(3, SAMPLE)
    pack_tables(samples(10), before)
    fixed = frozenset(content_digest(each) for each in before.recorded())
    after = FirstChoice(3, SAMPLE, fixed)
    pack_tables(samples(500), after)
    assert after.recorded() == before.recorded()


def test_few_requests_among_many_done_rows_do_not_wait_for_a_full_table() -> None:
    seconds = iter(range(100))
    first, second, third = samples(3)
    found = [[[first]], [], [], [[second], [third]], []]
    packed = list(pack_rest(found, lambda: next(seconds) / 2))
    assert unpacked([table for table in packed if table is not None]) == [
        [first],
        [second],
        [third],
    ]
    assert packed.count(None) == len(found)
    assert next(n for n, table in enumerate(packed) if table is not None) <= 2
