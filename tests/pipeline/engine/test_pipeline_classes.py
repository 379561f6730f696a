"""Pipeline classes that no model of the registry has, through the engine that makes clips."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engine.diffusers_engine import DiffusersEngine
from pipeline.models.load import load_pipeline
from pipeline.models.registry import PIPELINES
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from sencache import SenCacheConfig
from sencache.measuring import prior_profile
from tests.model_builders import BY_CLASS

FRAMES = {"MochiPipeline": 7}
STEPS = 6
PRIOR = prior_profile("flow")
PLANNED = CacheIdentity.of(SenCacheConfig(policy="planned", budget=0.5), PRIOR)
EXACT = CacheIdentity.of(SenCacheConfig(epsilon=0.0), PRIOR)

MakeRequest = Callable[..., SampleRequest]


QUICK = "LTXConditionPipeline"


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name == QUICK else pytest.mark.slow)
        for name in sorted(BY_CLASS)
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    """A class."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def model(name: str, tiny_model: Callable[[str], Path]) -> ResolvedModel:
    """A saved tiny pipeline of the class, as a model without a name of its own."""
    known = PIPELINES[name]
    spec = ModelSpec(
        name="mine",
        pipeline=known,
        hub_id="",
        revision="",
        licence="",
        dtype="float32",
        defaults=known.defaults,
        sources=known.sources,
    )
    return ResolvedModel(spec, str(tiny_model(name)), "0" * 12)


@functools.cache
def engine_of(model: ResolvedModel) -> DiffusersEngine:
    return DiffusersEngine(model, load_pipeline(model, "cpu"), profile=PRIOR)


@pytest.fixture
def make(name: str, model: ResolvedModel, request_for: MakeRequest) -> MakeRequest:
    """Makes a request for the class."""

    def of(prompt: str, seed: int, cache: CacheIdentity, **changes: Any) -> SampleRequest:
        size = {"num_frames": FRAMES.get(name, 9), "num_inference_steps": STEPS}
        return request_for(model, prompt, seed, cache=cache, **(size | changes))

    return of


def test_a_run_without_reuse_is_bit_identical(
    name: str, model: ResolvedModel, make: MakeRequest
) -> None:
    engine = engine_of(model)
    (plain,) = engine.generate([make("a red circle", 1, CacheIdentity())])
    (exact,) = engine.generate([make("a red circle", 1, EXACT)])
    assert plain.frames.shape == (FRAMES.get(name, 9), 64, 64, 3)
    assert np.array_equal(plain.frames, exact.frames)
    assert plain.cache["decisions"] == exact.cache["decisions"] == "C" * STEPS


def test_rows_of_a_batch_follow_the_plan_and_are_their_runs_alone(
    model: ResolvedModel, make: MakeRequest
) -> None:
    engine = engine_of(model)
    requests = [make("a red circle", 1, PLANNED), make("two blue boxes", 2, PLANNED)]
    together = engine.generate(requests)
    for request, clip in zip(requests, together, strict=True):
        assert (clip.cache["nfe"], len(clip.cache["decisions"])) == (STEPS // 2, STEPS)
        (alone,) = engine.generate([request])
        assert alone.cache["decisions"] == clip.cache["decisions"]
        assert abs(alone.frames.astype(int) - clip.frames).max() <= 2
    assert not np.array_equal(together[0].frames, together[1].frames)


def test_the_first_clip_of_a_run_can_be_measured(model: ResolvedModel, make: MakeRequest) -> None:
    recorded = make("a red circle", 1, CacheIdentity(), records=True)
    (clip,) = engine_of(model).generate([recorded])
    assert '"distances"' in clip.measurement or "drift" in clip.measurement
