"""Which sizes a model can make, and what is said of one that it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.sizes import SizeRules


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
def test_a_size_is_fine_exactly_if_the_vae_divides_it(width: int, height: int, frames: int) -> None:
    problem = SizeRules(16, 4).problem(width, height, frames)
    fine = width % 16 == 0 and height % 16 == 0 and frames % 4 == 1
    assert (problem == "") == fine


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((16, 16, 1), ""),
        ((8, 16, 5), "width 8 is not a multiple of 16: use 16"),
        ((16, 24, 5), "height 24 is not a multiple of 16: use 16 or 32"),
        ((33, 16, 5), "width 33 is not a multiple of 16: use 32 or 48"),
        ((16, 16, 4), "num_frames 4 is too few for this model: use 5 or more"),
        ((16, 16, 5), ""),
        ((16, 16, 8), "num_frames 8 is not 1 + a multiple of 4: use 5 or 9"),
    ],
)
def test_a_size_that_cannot_be_says_the_next_ones(size: tuple[int, int, int], said: str) -> None:
    least = 5 if size[2] > 1 else 1
    assert SizeRules(16, 4, least).problem(*size) == said
    if size[2] == 1:
        assert SizeRules(16, 4).problem(*size) == ""


def test_a_clip_may_have_so_many_pixels_and_no_more() -> None:
    assert SizeRules(1, 1).problem(4096, 4096, 64) == ""
    assert SizeRules(1, 1).problem(4096, 4096, 65) == (
        "4096x4096x65 is 1,090,519,040 pixels per clip, more than the limit of 1,073,741,824"
    )


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((32, 32, 9), ""),
        ((32, 32, 13), "num_frames 13 is too many for this model: use 9 or less"),
        ((48, 32, 9), "48x32 is 1,536 pixels per frame, and this model makes at most 1,024"),
        ((16, 64, 9), ""),
    ],
)
def test_a_model_can_have_a_largest_size(size: tuple[int, int, int], said: str) -> None:
    assert SizeRules(16, 4, max_frames=9, max_pixels=1024).problem(*size) == said


def test_a_size_beyond_a_position_table_or_a_list_is_refused() -> None:
    rules = SizeRules(multiple=16, frame_stride=4, max_width=64, max_height=32)
    assert rules.problem(64, 32, 9) == ""
    assert "width 80 is too much for this model: use 64 or less" in rules.problem(80, 32, 9)
    assert "height 48 is too much" in rules.problem(64, 48, 9)
    listed = SizeRules(multiple=16, frame_stride=4, only=((64, 32), (32, 64)))
    assert listed.problem(32, 64, 9) == ""
    assert listed.problem(48, 64, 9).endswith("the nearest is 32x64")
