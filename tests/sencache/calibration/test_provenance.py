"""Facts of a calibration, and knowing it again."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sencache.calibration.provenance import fingerprint, measured_networks, run_facts
from tests.sencache.support.toys import (
    LINEAR,
    LinearPipe,
    LinearTransformer,
    euler,
    tiny_pipe,
)


def call_kwargs(**options: Any) -> str:
    """What a fingerprint says of the pipeline's arguments."""
    pipe = LinearPipe(LinearTransformer(1.0, 1.0), euler())
    networks = measured_networks(pipe, family=LINEAR)
    facts = run_facts(pipe, networks, options, "toy", "", None)
    found = fingerprint(facts, networks, pipe, options, ["a"], [0], 1, None)["call_kwargs"]
    assert isinstance(found, str)
    return found


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (shade, 0, 0))


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (torch.ones(3), torch.ones(3), torch.tensor([1.0, 1.0, 1.1])),
        (torch.ones(3), torch.ones(3), torch.ones(1, 3)),
        (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16), torch.ones(3)),
        (torch.tensor(1.0), torch.tensor(1.0), torch.tensor(2.0)),
        (picture(1), picture(1), picture(2)),
        (np.ones(3), np.ones(3), np.zeros(3)),
        ([picture(1), 3], [picture(1), 3], [picture(1), 4]),
        ({"scale": 1.0}, {"scale": 1.0}, {"scale": 2.0}),
    ],
)
def test_arguments_are_told_by_their_content(one: Any, same: Any, other: Any) -> None:
    assert call_kwargs(image=one) == call_kwargs(image=same) != call_kwargs(image=other)


def test_functions_are_told_by_their_name() -> None:
    def build() -> Any:
        def callback() -> None:
            """One object per call, at another address."""

        return callback

    assert call_kwargs(callback=build()) == call_kwargs(callback=build())
    assert call_kwargs(callback=build()) != call_kwargs(callback=torch.ones)
    assert call_kwargs(callback=functools.partial(build)) == call_kwargs(
        callback=functools.partial(build)
    )


def test_the_name_of_a_pipeline_is_where_it_was_loaded_from() -> None:
    pipe = tiny_pipe()
    networks = measured_networks(pipe)
    assert run_facts(pipe, networks, {}, None, "", None)["model"] == ""  # built by hand
    pipe.register_to_config(_name_or_path="some/where")
    assert run_facts(pipe, networks, {}, None, "", None)["model"] == "some/where"
    assert run_facts(pipe, networks, {}, "given", "", None)["model"] == "given"
