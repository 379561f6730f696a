"""The seed of a clip, given or derived."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowRejectedError
from pipeline.requests.from_row import build_request
from pipeline.requests.seeds import MAX_SEED
from tests.pipeline.requests.test_from_row import DEFAULTS, build, prompts


@given(prompts, st.integers(0, 50), st.integers(0, 50))
def test_a_missing_seed_depends_on_the_request_and_the_copy_alone(
    prompt: str, copy: int, other: int
) -> None:
    one = build_request({"prompt": prompt}, DEFAULTS, "a:1", copy)
    two = build_request({"prompt": prompt, "seed": None}, DEFAULTS, "b:9", copy)
    assert one.sample_id == two.sample_id
    assert 0 <= one.seed < 2**48
    third = build_request({"prompt": prompt}, DEFAULTS, "a:1", other)
    assert (third.seed == one.seed) == (other == copy)


def test_a_given_seed_moves_with_the_copy() -> None:
    assert [build(copy, seed=5).seed for copy in range(3)] == [5, 6, 7]
    based = dataclasses.replace(DEFAULTS, seed=100)
    assert build_request({"prompt": "p"}, based, "f:1", 2).seed == 102
    with pytest.raises(RowRejectedError, match="seed is 9223372036854775807, outside"):
        build(1, seed=MAX_SEED)
