"""The seed of a clip: given by its row or the run, or following from its content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowRejectedError
from pipeline.prompts.condition_columns import FIRST_IMAGE, ConditionFile
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import CacheIdentity
from pipeline.requests.seeds import MAX_SEED, copy_seed, first_seed
from tests.pipeline.requests.test_from_row import DEFAULTS, build, prompts


@given(prompts, st.integers(0, 50), st.integers(0, 50))
def test_a_missing_seed_depends_on_the_content_and_the_copy_alone(
    prompt: str, copy: int, other: int
) -> None:
    one = build_request({"prompt": prompt}, DEFAULTS, "a:1", copy)
    two = build_request({"prompt": prompt, "seed": None}, DEFAULTS, "b:9", copy)
    assert one.sample_id == two.sample_id
    assert 0 <= one.seed < 2**48
    third = build_request({"prompt": prompt}, DEFAULTS, "a:1", other)
    assert (third.seed == one.seed) == (other == copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": CacheIdentity("planned", '{"budget":0.34}', "h")},
        {"sampler": "UniPC/5.0", "num_inference_steps": 9},
        {"guidance_scale": 7.5, "negative_prompt": "dull"},
        {"width": 128, "height": 32, "num_frames": 5, "fps": 24},
        {"model": "other", "model_revision": "r", "adapters": ("lora@1",), "dtype": "float16"},
    ],
)
@pytest.mark.parametrize("copy", [0, 3])
def test_settings_leave_the_seed_of_a_prompt_alone(changes: dict[str, Any], copy: int) -> None:
    other = dataclasses.replace(
        DEFAULTS, template=dataclasses.replace(DEFAULTS.template, **changes)
    )
    one, two = (build_request({"prompt": "a cat"}, each, "f:1", copy) for each in (DEFAULTS, other))
    assert one.sample_id != two.sample_id
    assert one.seed == two.seed


def test_the_first_image_is_content() -> None:
    takes = dataclasses.replace(DEFAULTS, conditions=(FIRST_IMAGE,))
    one, two, moved = (
        build_request(
            {"prompt": "p", "image": (ConditionFile("image", sha * 64, at),)}, takes, "f:1"
        ).seed
        for sha, at in (("0", "a.png"), ("1", "a.png"), ("0", "b.png"))
    )
    assert one != two
    assert one == moved


def test_derived_seeds_are_these() -> None:
    """Literal: other seeds would make other clips of the same rows."""
    assert first_seed(None, None, "a cat") == 0xC3AB73186A78
    assert build(0).seed == 0xC3AB73186A78  # of the same prompt
    assert copy_seed(5, 1) == 0xC64DC9B34989
    content = json.dumps(["seed", "a cat", "0" * 64], separators=(",", ":"))
    with_image = hashlib.sha256(content.encode()).hexdigest()[:12]  # 48 bits
    assert first_seed(None, None, "a cat", "0" * 64) == int(with_image, 16)


@given(st.lists(st.integers(0, MAX_SEED), min_size=2, max_size=40, unique=True))
def test_copies_never_meet_another_row_s_seed(seeds: list[int]) -> None:
    made = [copy_seed(seed, copy) for seed in seeds for copy in range(4)]
    assert len(set(made)) == len(made)
    assert made[::4] == seeds


def test_seeds_in_a_row_have_copies_of_their_own() -> None:
    made = [build(copy, seed=seed).sample_id for seed in range(50) for copy in range(8)]
    assert len(set(made)) == 400
    based = dataclasses.replace(DEFAULTS, seed=100)
    assert build_request({"prompt": "p"}, based, "f:1", 2).seed == copy_seed(100, 2)


@pytest.mark.parametrize("seed", [0, 2**32, 2**63, MAX_SEED, 7.0, float(2**53 - 1)])
def test_every_whole_number_of_64_bits_is_a_seed(seed: float) -> None:
    assert build(0, seed=seed).seed == int(seed)


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (MAX_SEED + 1, "outside 0 to 18446744073709551615"),
        (-1, "seed is -1, outside"),
        (float(2**53), "has lost its last digits"),
        (1e300, "has lost its last digits"),
    ],
)
def test_what_is_no_seed_is_rejected(seed: float, message: str) -> None:
    with pytest.raises(RowRejectedError, match=message):
        build(0, seed=seed)
