import dataclasses
import hashlib
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts.condition_columns import ConditionFile
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SenCacheConfig

REQUEST = SampleRequest(
    "a cat", "blurry", "demo", "rev", "Euler/3.0", 50, 4.0, 64, 48, 17, 8, 32, 7, source_key="f:1"
)


def test_the_id_is_the_documented_hash() -> None:
    fields = dataclasses.asdict(REQUEST)
    empty = {"control_of", "decoding", "sigmas", "guidance_scale_2"}
    empty |= {"model_class", "quantisation", "safety_checker"}
    for name in NOT_IDENTITY | empty | {"conditions", "_id"}:
        del fields[name]
    fields["adapters"] = []
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert REQUEST.sample_id == hashlib.sha256(canonical).hexdigest()[:20]


NOT_IDENTITY = {"source_key", "texts", "source", "records", "profile_text"}
NOT_IDENTITY |= {"candidate", "candidates", "draft_of", "drafts", "first_frames"}
NOT_IDENTITY |= {"sample_cache", "sample_quantisation"}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(SampleRequest) if f.init])
def test_every_field_but_the_source_moves_the_id(name: str) -> None:
    value = getattr(REQUEST, name)
    other: Any = {
        str: lambda: value + "x",
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value + 0.5,
        CacheIdentity: lambda: CacheIdentity("paper", '{"epsilon":0.1}', "abc"),
        tuple: lambda: ("lora@1.0",),
        bytes: lambda: value + b"x",
        type(None): lambda: 3.0,
    }[type(value)]()
    if name == "conditions":
        other = (ConditionFile("image", "0" * 64, "a.png"),)
    if name == "sample_cache":
        other = CacheIdentity("paper", "{}", "abc")
    moved = dataclasses.replace(REQUEST, **{name: other}).sample_id
    assert (moved == REQUEST.sample_id) == (name in NOT_IDENTITY)


def test_another_request_does_not_keep_the_id_that_was_computed() -> None:
    assert REQUEST.sample_id == REQUEST.sample_id
    moved = dataclasses.replace(REQUEST, seed=REQUEST.seed + 1)
    assert moved.sample_id != REQUEST.sample_id
    assert pickle.loads(pickle.dumps(moved)).sample_id == moved.sample_id
    assert "_id" not in moved.to_json()


@given(st.text())
def test_transport_is_exact(prompt: str) -> None:
    request = control_for(dataclasses.replace(REQUEST, prompt=prompt))
    assert SampleRequest.from_json(request.to_json()) == request


@given(
    epsilon=st.floats(0, 10),
    strict=st.floats(0, 10),
    fraction=st.floats(0, 1),
    reuse=st.integers(1, 50),
)
def test_without_reuse_every_setting_is_the_same_cache(
    epsilon: float, strict: float, fraction: float, reuse: int
) -> None:
    config = SenCacheConfig(
        policy="none",
        epsilon=epsilon,
        strict_epsilon=strict,
        strict_fraction=fraction,
        max_reuse=reuse,
    )
    assert CacheIdentity.of(config, None) == CacheIdentity()


def test_epsilon_zero_is_no_cache() -> None:
    assert CacheIdentity.of(SenCacheConfig(policy="paper", epsilon=0.0), None) == CacheIdentity()


def test_an_identity_leads_back_to_settings(profile: Any) -> None:
    config = SenCacheConfig(epsilon=0.3, strict_epsilon=0.02, strict_fraction=0.1, max_reuse=4)
    identity = CacheIdentity.of(config, profile)
    assert identity.policy == "paper"
    assert identity.profile == profile.hash
    back = identity.settings(50, 4.0)
    assert back.num_inference_steps == 50
    assert CacheIdentity.of(back, profile) == identity


def test_every_option_leads_back_from_an_identity(profile: Any) -> None:
    config = SenCacheConfig(correct=True, reuse="residual", row_buckets=(1, 2), final_computed=2)
    back = CacheIdentity.of(config, profile).settings(50, 6.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config
    assert back.guidance


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("repair", [False, True])
def test_a_planned_identity_leads_back_to_settings(profile: Any, order: int, repair: bool) -> None:
    config = SenCacheConfig(policy="planned", budget=0.4, order=order, repair=repair)
    back = CacheIdentity.of(config, profile).settings(50, 1.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config


def test_a_gated_identity_leads_back_to_settings(profile: Any) -> None:
    config = SenCacheConfig(policy="planned", budget=0.4, gate=2, gate_ratio=0.3)
    back = CacheIdentity.of(config, profile).settings(50, 1.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_has_no_id(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [value]})


@pytest.mark.parametrize(
    ("scale", "guided"), [(0.0, False), (1.0, False), (1.01, True), (2.0, True)]
)
def test_guidance_is_on_above_one(scale: float, guided: bool) -> None:
    settings = CacheIdentity("paper", "{}", "h").settings(30, scale)
    assert (settings.guidance, settings.num_inference_steps) == (guided, 30)
