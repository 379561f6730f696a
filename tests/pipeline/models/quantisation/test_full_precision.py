"""Controls of quantised clips: made by one engine, in full precision, and none the worse for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.engine.diffusers_engine import load_engine
from pipeline.models.engine_options import EngineOptions
from pipeline.models.quantisation.quantise import Quantise
from pipeline.models.spec import ResolvedModel
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile

pytest.importorskip("torchao", reason="the extra quantize")

WAN, TWO_EXPERTS = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
SETTINGS = {"epsilon": 1e6, "strict_epsilon": 1e6, "strict_fraction": 0.2, "max_reuse": 1}

Resolve = Callable[[str], ResolvedModel]
MakeRequest = Callable[..., SampleRequest]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"), [(WAN, "int8"), pytest.param(TWO_EXPERTS, "fp8", marks=pytest.mark.slow)]
)
def test_a_control_is_the_clip_of_an_unquantised_engine(
    name: str,
    how: Quantise,
    tiny_resolved: Resolve,
    request_for: MakeRequest,
    profile: SensitivityProfile,
) -> None:
    model = tiny_resolved(name)
    cache = CacheIdentity("paper", canonical_json(SETTINGS), profile.hash)
    request = dataclasses.replace(request_for(model), quantisation=how, cache=cache)
    control = control_for(request)
    text = profile.to_json()
    options = EngineOptions(quantise=how, keeps_full=True)
    engine = load_engine(model, device="cpu", profile_json=text, options=options)
    (before,), (other,), (after,) = (
        engine.generate([each]) for each in (request, control, request)
    )
    engine.close()
    plain = load_engine(model, device="cpu")
    (wanted,) = plain.generate([request_for(model)])
    plain.close()
    assert np.array_equal(other.frames, wanted.frames)
    assert other.latents is not None
    assert wanted.latents is not None
    assert np.array_equal(other.latents, wanted.latents)
    assert other.cache["reused"] == 0
    assert before.cache["reused"] > 0
    assert np.array_equal(before.frames, after.frames)
    alone = load_engine(model, device="cpu", profile_json=text, options=EngineOptions(quantise=how))
    (same,) = alone.generate([request])
    uncached = dataclasses.replace(request, cache=CacheIdentity())
    (quantised,) = alone.generate([uncached])
    with pytest.raises(ValueError, match=f"weights in full precision, .* holds them in {how}"):
        alone.generate([control])
    alone.close()
    assert np.array_equal(before.frames, same.frames)
    assert quantised.latents is not None
    off = np.abs(quantised.latents - other.latents).max() / np.abs(other.latents).max()
    assert 0 < off < 0.1


def test_a_control_that_fails_leaves_the_quantised_networks_in_place(
    tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    model = tiny_resolved(WAN)
    request = dataclasses.replace(request_for(model), quantisation="int8")
    options = EngineOptions(quantise="int8", keeps_full=True)
    engine = load_engine(model, device="cpu", options=options)
    (before,) = engine.generate([request])
    broken = dataclasses.replace(control_for(request), width=72)  # no multiple of 16
    with pytest.raises(ValueError, match="divisible by 16"):
        engine.generate([broken])
    (after,) = engine.generate([request])
    engine.close()
    assert np.array_equal(before.frames, after.frames)


def test_quantised_weights_are_a_part_of_the_id(
    request_for: MakeRequest, tiny_resolved: Resolve
) -> None:
    request = request_for(tiny_resolved(WAN))
    int8, fp8 = (dataclasses.replace(request, quantisation=how) for how in ("int8", "fp8"))
    assert len({request.sample_id, int8.sample_id, fp8.sample_id}) == 3
    assert "quantisation" not in request.identity()
    assert control_for(int8).quantisation == ""
    assert SampleRequest.from_json(int8.to_json()) == int8
