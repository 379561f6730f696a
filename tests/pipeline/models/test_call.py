"""What no call of a model's pipeline can take is refused before the input is read."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.call import check_call
from pipeline.models.registry import MODELS
from pipeline.models.spec import ModelSpec

WAN, IMAGE = MODELS["wan2.1-t2v-1.3b"], MODELS["wan2.1-i2v-14b"]
ONE = dataclasses.replace(WAN, pipeline=dataclasses.replace(WAN.pipeline, one_prompt=True))


def config(**given: Any) -> RunConfig:
    return RunConfig.model_validate({"prompts": "p", "output": "o", **given})


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (WAN, {"columns": ["video"]}, "takes no video .it starts from texts alone."),
        (IMAGE, {"columns": ["image", "mask"]}, "--columns mask: .* takes no mask .it takes image"),
        (ONE, {"batch_rows": 2}, "--batch-rows 2: WanPipeline takes one prompt per call"),
        (
            MODELS["cogvideox-2b"],
            {"sampling": {"max_sequence_length": 300}},
            "takes texts of 226 tokens and of no other length",
        ),
    ],
)
def test_what_a_call_does_not_take_is_refused(
    spec: ModelSpec, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_call(config(**given), spec)


def test_what_a_call_takes_is_taken() -> None:
    check_call(config(columns=["image", "style"], batch_rows=4), IMAGE)
    check_call(config(batch_rows=1), ONE)
    check_call(config(sampling={"max_sequence_length": 226}), MODELS["cogvideox-2b"])
    check_call(config(sampling={"max_sequence_length": 300}), MODELS["cogvideox-5b"])
