"""The engine on tiny pipelines of every class, with random weights."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.engine.diffusers_engine import (
    load_engine,
)
from pipeline.models.registry import MODELS
from pipeline.requests.sample_request import CacheIdentity
from sencache import SensitivityProfile
from tests.model_fixtures import one_quick
from tests.pipeline.engine.loaded import EngineOf, MakeRequest, Resolve, paper, psnr

HUB_MODELS = [name for name, spec in MODELS.items() if spec.hub_id and not spec.conditions]
WAN = "wan2.1-t2v-1.3b"
TWO_EXPERTS = "wan2.2-t2v-a14b"
EULER = "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize("name", one_quick(HUB_MODELS))
def test_every_model_makes_clips_of_the_requested_size(
    name: str, engine_of: EngineOf, request_for: MakeRequest
) -> None:
    engine, model = engine_of(name)
    (clip,) = engine.generate([request_for(model)])
    assert clip.frames.shape == (9, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.flags.c_contiguous
    assert clip.cache["decisions"] == "CCCCC"
    assert clip.cache["nfe"] == 5
    assert clip.cache["reused"] == 0
    assert clip.peak_memory_bytes > 0


# Those of float16 models are left to a GPU: half-precision convolutions take seconds on a CPU.
@pytest.mark.parametrize(
    "name",
    [
        WAN,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (TWO_EXPERTS, "cogvideox-5b", "ltx-video")
        ),
    ],
)
def test_bfloat16_models_run_in_their_authors_precision(
    name: str, tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    model = tiny_resolved(name)
    engine = load_engine(model, device="cpu", dtype=model.spec.dtype)
    (clip,) = engine.generate([request_for(model)])
    assert clip.frames.shape == (9, 64, 64, 3)
    engine.close()


@pytest.mark.parametrize("name", one_quick(HUB_MODELS))
def test_a_row_does_not_depend_on_its_batch(
    name: str, engine_of: EngineOf, request_for: MakeRequest
) -> None:
    engine, model = engine_of(name)
    batch = [request_for(model, prompt, seed) for seed, prompt in enumerate(("a dog", "big cat"))]
    together = engine.generate(batch)
    for request, clip in zip(batch, together, strict=True):
        (alone,) = engine.generate([request])
        assert psnr(clip.frames, alone.frames) > 60
    assert psnr(together[0].frames, together[1].frames) < 40


LCM = "FlowMatchLCMScheduler"
FLOW_MODELS = [name for name in HUB_MODELS if LCM in MODELS[name].family.samplers]


@pytest.mark.parametrize("name", one_quick(FLOW_MODELS))
def test_a_row_of_a_random_sampler_does_not_depend_on_its_batch(
    name: str, engine_of: EngineOf, request_for: MakeRequest
) -> None:
    engine, model = engine_of(name)
    few = {"sampler": LCM, "sigmas": (1.0, 0.8, 0.4), "num_inference_steps": 3}
    batch = [
        request_for(model, prompt, seed, guidance_scale=1.0, **few)
        for seed, prompt in enumerate(("a dog", "big cat"))
    ]
    together = engine.generate(batch)
    for request, clip in zip(batch, together, strict=True):
        torch.manual_seed(99)
        (alone,) = engine.generate([request])
        assert psnr(clip.frames, alone.frames) > 60
        assert clip.cache["decisions"] == "CCC"
    assert psnr(together[0].frames, together[1].frames) < 40


@pytest.mark.parametrize("name", one_quick(FLOW_MODELS))
def test_listed_noise_levels_reach_the_network(
    name: str,
    engine_of: EngineOf,
    request_for: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, model = engine_of(name)
    times: list[float] = []
    for part in ("transformer", "transformer_2"):
        network = getattr(engine._pipe, part, None)
        if network is not None:
            monkeypatch.setattr(network, "forward", noting(network.forward, times))
    levels = (1.0, 0.75, 0.5)
    few = {"sampler": EULER, "sigmas": levels, "num_inference_steps": 3, "guidance_scale": 1.0}
    engine.generate([request_for(model, **few)])
    assert times == pytest.approx([1000 * level for level in levels])  # and one call a step


@pytest.mark.parametrize(
    "name", one_quick([n for n in HUB_MODELS if not MODELS[n].pipeline.distilled_guidance])
)
def test_guidance_that_is_off_costs_neither_evaluations_nor_encodings(
    name: str,
    engine_of: EngineOf,
    request_for: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, model = engine_of(name)
    work = {"network": 0, "texts": 0}

    def counting(what: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def counted(*args: Any, **kwargs: Any) -> Any:
            rows = args[0] if args else kwargs["hidden_states"]
            work[what] += len(rows)
            return forward(*args, **kwargs)

        return counted

    for what, part in (
        ("network", "transformer"),
        ("network", "transformer_2"),
        ("texts", "text_encoder"),
    ):
        module = getattr(engine._pipe, part, None)
        if module is not None:
            monkeypatch.setattr(module, "forward", counting(what, module.forward))
    steps = 5
    engine.generate([request_for(model, guidance_scale=1.0, negative_prompt="blurry")])
    assert work == {"network": steps, "texts": 1}
    engine.generate([request_for(model, guidance_scale=3.0, negative_prompt="blurry")])
    assert work == {"network": 3 * steps, "texts": 3}


def noting(forward: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def noted(*args: Any, **kwargs: Any) -> Any:
        times.append(float(kwargs["timestep"].flatten()[0]))
        return forward(*args, **kwargs)

    return noted


@pytest.mark.parametrize("name", one_quick(HUB_MODELS))
def test_the_prompt_reaches_the_pixels(
    name: str, engine_of: EngineOf, request_for: MakeRequest
) -> None:
    engine, model = engine_of(name)
    one, two = (
        engine.generate([request_for(model, prompt, seed=3)])[0] for prompt in ("a dog", "big cat")
    )
    assert not np.array_equal(one.frames, two.frames)


def test_the_same_request_gives_the_same_bytes_whatever_ran_before(
    engine_of: EngineOf, request_for: MakeRequest, profile: SensitivityProfile
) -> None:
    engine, model = engine_of(WAN)
    request = request_for(model, seed=5)
    (first,) = engine.generate([request])
    euler = "FlowMatchEulerDiscreteScheduler/3.0"
    engine.generate([request_for(model, seed=6, sampler=euler, cache=paper(profile))])
    (again,) = engine.generate([request])
    assert np.array_equal(first.frames, again.frames)


def test_a_negative_prompt_counts_only_with_guidance(
    engine_of: EngineOf, request_for: MakeRequest
) -> None:
    engine, model = engine_of(WAN)

    def make(**changes: Any) -> np.ndarray[Any, Any]:
        return engine.generate([request_for(model, **changes)])[0].frames

    assert not np.array_equal(make(), make(negative_prompt="blurry"))
    assert np.array_equal(
        make(guidance_scale=1.0), make(guidance_scale=1.0, negative_prompt="blurry")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 96}, "must agree in everything"),
        ({"fps": 30}, "must agree in everything"),
        ({"model": "demo"}, "must agree in everything"),
        ({"cache": CacheIdentity("paper", "{}", "0" * 16)}, "must agree in everything"),
    ],
)
def test_a_mixed_batch_is_refused(
    engine_of: EngineOf, request_for: MakeRequest, changes: dict[str, Any], message: str
) -> None:
    engine, model = engine_of(WAN)
    request = request_for(model)
    with pytest.raises(ValueError, match=message):
        engine.generate([request, dataclasses.replace(request, **changes)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_revision": "f" * 16}, "this engine holds wan2.1-t2v-1.3b at"),
        ({"adapters": ("s3://loras/a@1.0",)}, "request is for the adapters s3:.*holds .none."),
        (
            {"cache": CacheIdentity("paper", "{}", "0" * 16)},
            "request wants profile 0000000000000000",
        ),
        ({"cache": CacheIdentity("none", '{"odd":1}', "")}, "are not known"),
    ],
)
def test_what_this_engine_cannot_make_is_refused(
    engine_of: EngineOf, request_for: MakeRequest, changes: dict[str, Any], message: str
) -> None:
    engine, model = engine_of(WAN)
    with pytest.raises(ValueError, match=message):
        engine.generate([request_for(model, **changes)])


@pytest.mark.slow
def test_the_factory_travels_to_a_worker(tiny_resolved: Resolve, request_for: MakeRequest) -> None:
    model = tiny_resolved(WAN)
    factory = pickle.loads(pickle.dumps(functools.partial(load_engine, model, device="cpu")))
    engine = factory()
    assert engine.group_size == 1
    assert engine.device_name
    assert len(engine.generate([request_for(model)])) == 1
    engine.close()
