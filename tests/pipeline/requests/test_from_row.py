import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowRejectedError
from pipeline.requests.from_row import (
    RequestDefaults,
    build_request,
    rejected_id,
    size_problem,
)
from pipeline.requests.row_values import MAX_PROMPT_CHARS
from pipeline.requests.sample_request import SampleRequest

TEMPLATE = SampleRequest("", "blurry", "demo", "rev", "Euler/3.0", 50, 4.0, 64, 48, 17, 8, 32, 0)
DEFAULTS = RequestDefaults(TEMPLATE, seed=None, size_multiple=16, frame_stride=4)

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1)
prompts = text.filter(lambda value: bool(value.strip()))


def build(copy: int = 0, /, **row: Any) -> SampleRequest:
    return build_request({"prompt": "a cat"} | row, DEFAULTS, "f:1", copy)


def test_a_row_overrides_the_defaults_field_by_field() -> None:
    request = build(width=32, guidance_scale=1, num_frames=5.0, negative_prompt="")
    assert (request.width, request.height, request.num_frames) == (32, 48, 5)
    assert (request.guidance_scale, request.negative_prompt) == (1.0, "")
    assert isinstance(request.num_frames, int)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": 7}, "prompt is a int"),
        ({"prompt": "x" * (MAX_PROMPT_CHARS + 1)}, "10,001 characters"),
        ({"prompt": "a\x00b"}, "NUL"),
        ({"prompt": "a\ud800b"}, "surrogate"),
        ({"negative_prompt": ["x"]}, "negative_prompt is a list"),
        ({"width": -16}, "width is -16, outside 1 to 16384"),
        ({"width": 10**30}, "outside"),
        ({"width": 65}, "width 65 is not a multiple of 16: use 64 or 80"),
        ({"height": 8}, "use 16"),
        ({"num_frames": 16}, "use 13 or 17"),
        ({"num_frames": 4.5}, "num_frames is 4.5, not a whole number"),
        ({"fps": "8"}, "fps is a str"),
        ({"fps": True}, "fps is a bool"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": float("nan")}, "seed is nan"),
        ({"seed": float("inf")}, "seed is inf"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": 1e9}, "outside 0 to 100"),
        ({"width": 16_384, "height": 16_384, "num_frames": 99_997}, "pixels per clip"),
    ],
)
def test_bad_rows_say_what_would_be_right(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowRejectedError, match=message.replace("(", r"\(")):
        build(**row)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
def test_a_size_is_fine_exactly_if_the_vae_divides_it(width: int, height: int, frames: int) -> None:
    problem = size_problem(width, height, frames, 16, 4)
    fine = width % 16 == 0 and height % 16 == 0 and frames % 4 == 1
    assert (problem == "") == fine


def test_rejected_rows_are_told_apart_by_content_and_repeat() -> None:
    ids = {
        rejected_id({"prompt": ""}),
        rejected_id({"prompt": ""}, 1),
        rejected_id({"prompt": None}),
    }
    assert len(ids) == 3
    assert rejected_id({"prompt": ""}, 0) in ids


@pytest.mark.parametrize("scale", [0, 0.0, 0.5, 1.0, 1])
@pytest.mark.parametrize("negative", [None, "", "blurry"])
def test_guidance_that_is_off_is_one_clip_whatever_it_is_called(
    scale: float, negative: str | None
) -> None:
    made = build(guidance_scale=scale, negative_prompt=negative, seed=1)
    assert made.sample_id == build(guidance_scale=1.0, seed=1).sample_id
    assert (made.guidance_scale, made.negative_prompt) == (1.0, "")
    assert build(guidance_scale=1.01, seed=1).negative_prompt == "blurry"


def test_a_row_that_turns_guidance_on_has_the_run_s_negative_prompt() -> None:
    off = dataclasses.replace(DEFAULTS, template=dataclasses.replace(TEMPLATE, guidance_scale=1.0))
    assert build_request({"prompt": "p"}, off, "f:1").negative_prompt == ""
    on = build_request({"prompt": "p", "guidance_scale": 4}, off, "f:1")
    assert (on.negative_prompt, on.guidance_scale) == ("blurry", 4.0)


def test_distilled_guidance_keeps_its_scale_and_takes_no_negative_prompt() -> None:
    plain = dataclasses.replace(TEMPLATE, negative_prompt="")
    distilled = dataclasses.replace(DEFAULTS, template=plain, distilled_guidance=True)
    made = {
        build_request({"prompt": "p", "guidance_scale": g, "seed": 1}, distilled, "f:1").sample_id
        for g in (0, 0.5, 1, 6)
    }
    assert len(made) == 4
    with pytest.raises(RowRejectedError, match="negative_prompt: demo reads none"):
        build_request({"prompt": "p", "negative_prompt": "dull"}, distilled, "f:1")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"guidance_scale": Decimal("5.5")}, ("guidance_scale", 5.5)),
        ({"width": Decimal("32.0")}, ("width", 32)),
        ({"seed": Decimal(2**64 - 1)}, ("seed", 2**64 - 1)),
    ],
)
def test_decimals_are_numbers(row: dict[str, Any], expected: tuple[str, Any]) -> None:
    name, value = expected
    found = getattr(build(**row), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("value", ["3.5", "NaN", "Infinity", "-1", "1e30"])
def test_decimals_that_are_no_such_number_are_rejected(value: str) -> None:
    for name in ("num_frames", "seed", "guidance_scale"):
        if (name, value) != ("guidance_scale", "3.5"):
            with pytest.raises(RowRejectedError, match=f"{name} is"):
                build(**{name: Decimal(value)})
