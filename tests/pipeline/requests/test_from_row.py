import dataclasses
import hashlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st

from pipeline.errors import RowRejectedError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import FIRST_IMAGE, ConditionFile
from pipeline.requests.from_row import (
    RequestDefaults,
    build_request,
    checked_fields,
    rejected_id,
)
from pipeline.requests.row_values import MAX_PROMPT_CHARS
from pipeline.requests.sample_request import SampleRequest

TEMPLATE = SampleRequest("", "blurry", "demo", "rev", "Euler/3.0", 50, 4.0, 64, 48, 17, 8, 32, 0)
DEFAULTS = RequestDefaults(TEMPLATE, seed=None, sizes=SizeRules(16, 4))

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
        ({"prompt": None}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": 7}, "prompt is an int"),
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


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("num_inference_steps", 1, 1000), ("fps", 1, 240), ("guidance_scale", 0, 100)],
)
def test_numbers_of_a_row_have_these_limits(name: str, low: int, high: int) -> None:
    for value in (low, high):
        fields = checked_fields({"prompt": "p", name: value}, DEFAULTS)
        assert fields[name] == value
    for value in (low - 1, high + 1):
        with pytest.raises(RowRejectedError) as caught:
            build(**{name: value})
        assert str(caught.value) == f"{name} is {value}, outside {low} to {high}"


def test_a_row_that_sets_one_thing_inherits_the_others() -> None:
    assert checked_fields({"prompt": "p", "width": None, "seed": 3}, DEFAULTS) == {"prompt": "p"}
    assert checked_fields({"prompt": "p", "fps": 24}, DEFAULTS) == {
        "prompt": "p",
        "negative_prompt": "blurry",
        "num_inference_steps": 50,
        "width": 64,
        "height": 48,
        "num_frames": 17,
        "fps": 24,
        "guidance_scale": 4.0,
    }
    made = build(fps=24, negative_prompt="dull")
    assert (made.negative_prompt, made.fps, made.source_key) == ("dull", 24, "f:1")
    assert dataclasses.replace(
        made, prompt="", negative_prompt="blurry", fps=8, seed=0, source_key=""
    ) == dataclasses.replace(TEMPLATE, source_key="")


def test_a_model_that_starts_from_an_image_needs_one() -> None:
    takes = dataclasses.replace(DEFAULTS, conditions=(FIRST_IMAGE,))
    made = build_request(
        {"prompt": "p", "image": (ConditionFile("image", "a" * 64, "x.png"),)}, takes, "f:1"
    )
    assert made.conditions == (ConditionFile("image", "a" * 64, "x.png"),)
    for row in ({"prompt": "p"}, {"prompt": "p", "image": ()}):
        with pytest.raises(RowRejectedError) as caught:
            build_request(row, takes, "f:1")
        given = "empty" if "image" in row else "missing"
        assert str(caught.value) == f"image is {given}: this model needs it"
    assert build(image=(ConditionFile("image", "a" * 64, "x.png"),)).conditions == ()


def test_the_size_of_a_row_and_of_the_run_are_checked_alike() -> None:
    odd = dataclasses.replace(DEFAULTS, template=dataclasses.replace(TEMPLATE, width=65))
    with pytest.raises(RowRejectedError, match="width 65 is not"):
        build_request({"prompt": "p"}, odd, "f:1")
    assert build_request({"prompt": "p", "width": 64}, odd, "f:1").width == 64
    long = dataclasses.replace(DEFAULTS, sizes=SizeRules(16, 4, min_frames=21))
    with pytest.raises(RowRejectedError, match="num_frames 17 is too few"):
        build_request({"prompt": "p"}, long, "f:1")


def test_steps_that_the_cache_cannot_serve_reject_the_row() -> None:
    picky = dataclasses.replace(
        DEFAULTS, steps_problem=lambda steps: f"{steps} are too few" if steps < 50 else ""
    )
    assert build_request({"prompt": "p"}, picky, "f:1").num_inference_steps == 50
    with pytest.raises(RowRejectedError, match=r"^49 are too few$"):
        build_request({"prompt": "p", "num_inference_steps": 49}, picky, "f:1")


def test_a_negative_prompt_that_nothing_reads_is_said() -> None:
    distilled = dataclasses.replace(DEFAULTS, distilled_guidance=True)
    with pytest.raises(RowRejectedError) as caught:
        build_request({"prompt": "p", "negative_prompt": "x"}, distilled, "f:1")
    assert str(caught.value) == (
        "negative_prompt: demo reads none (its guidance is distilled): leave it empty"
    )
    assert build_request({"prompt": "p", "negative_prompt": ""}, distilled, "f:1").prompt == "p"
    with pytest.raises(RowRejectedError, match="negative_prompt is an int"):
        build(negative_prompt=3)


def test_the_id_of_a_rejected_row_is_a_hash_of_its_cells() -> None:
    def hashed(content: str) -> str:
        return hashlib.sha256(content.encode()).hexdigest()[:20]

    assert rejected_id({"b": 1, "a": "x"}) == hashed('{"rejected":{"a":"\'x\'","b":"1"}}')
    assert rejected_id({"a": "x"}, 2) == hashed('{"rejected":{"a":"\'x\'"},"repeat":2}')
    long = rejected_id({"a": "x" * MAX_PROMPT_CHARS})
    assert long == rejected_id({"a": "x" * (MAX_PROMPT_CHARS + 1)})
    assert long != rejected_id({"a": "x" * (MAX_PROMPT_CHARS - 2)})
