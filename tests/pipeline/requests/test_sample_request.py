import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.requests.sample_request import CacheSpec, SampleRequest

REQUEST = SampleRequest(
    "a cat", "blurry", "demo", "rev", "Euler/3.0", 50, 4.0, 64, 48, 17, 8, 32, 7, source_key="f:1"
)


def test_the_id_is_the_documented_hash() -> None:
    fields = dataclasses.asdict(REQUEST)
    for name in ("source_key", "control_of", "texts", "image", "image_at", "decoding"):
        del fields[name]
    fields["adapters"] = []
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert REQUEST.sample_id == hashlib.sha256(canonical).hexdigest()[:20]


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(SampleRequest)])
def test_every_field_but_the_source_moves_the_id(name: str) -> None:
    value = getattr(REQUEST, name)
    other: Any = {
        str: lambda: value + "x",
        int: lambda: value + 1,
        float: lambda: value + 0.5,
        CacheSpec: lambda: CacheSpec("paper", '{"epsilon":0.1}', "abc"),
        tuple: lambda: ("lora@1.0",),
        bytes: lambda: value + b"x",
    }[type(value)]()
    moved = dataclasses.replace(REQUEST, **{name: other}).sample_id
    assert (moved == REQUEST.sample_id) == (name in ("source_key", "texts", "image_at"))


@given(st.text())
def test_transport_is_exact(prompt: str) -> None:
    request = dataclasses.replace(REQUEST, prompt=prompt)
    assert SampleRequest.from_json(request.to_json()) == request
