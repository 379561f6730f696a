"""The largest call of a run, before anything is loaded and right after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from pipeline.config.run_config import RunConfig
from pipeline.engine import diffusers_engine
from pipeline.engine.diffusers_engine import load_engine
from pipeline.errors import UserError
from pipeline.models.memory.cards import CARDS
from pipeline.models.memory.preflight import LargestCall, check_fits, largest_call, try_largest
from pipeline.models.registry import MODELS, get_model
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.memory_lines import memory_lines
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from tests.model_fixtures import one_quick

WAN, TWO = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
TEXT_MODELS = [name for name, spec in MODELS.items() if spec.hub_id and not spec.conditions]


def call_of(request: SampleRequest, name: str = TWO, **settings: Any) -> LargestCall:
    config = RunConfig(prompts="p", output="o", model=name, **settings)
    found = largest_call(request, config, ResolvedModel(get_model(name), "", ""))
    assert found is not None
    return found


@pytest.fixture
def large(request_for: Callable[..., SampleRequest]) -> SampleRequest:
    model = ResolvedModel(get_model(TWO), "", "")
    return request_for(model, width=1280, height=720, num_frames=81)


def test_a_model_that_a_card_cannot_hold_is_refused_with_the_numbers(large: SampleRequest) -> None:
    call = call_of(large)
    check_fits(call, get_model(TWO), 85.0e9, "H100")
    with pytest.raises(
        UserError, match=r"1280x720x81 needs 7\d\.\d GB .* A100 has 42\.3: use a GPU"
    ):
        check_fits(call, get_model(TWO), 42.3e9, "A100")
    check_fits(call_of(large, engine={"offload": "model"}), get_model(TWO), 42.3e9, "A100")
    check_fits(None, get_model(TWO), 0.0, "A100")


def test_what_a_run_says_names_the_cards(large: SampleRequest) -> None:
    (line,) = memory_lines(call_of(large))
    runs, _, others = line.partition("; not on ")
    assert "1280x720x81 needs" in runs
    assert "H100 80GB (85)" in runs
    small = "RTX 4090, RTX 3090, RTX 5090, A100 40GB, RTX A6000, RTX 6000 Ada, L40S"
    assert others == small
    (whole,) = memory_lines(call_of(large, engine={"vae_tiling": False}))
    assert "H100 80GB" in whole.partition("; not on ")[2]
    assert memory_lines(call_of(large, "demo")) == memory_lines(None) == []
    assert "Tight on" not in line
    (line,) = memory_lines(call_of(dataclasses.replace(large, width=832, height=480), WAN))
    _, tight, rest = line.partition(". Tight on RTX 4090, RTX 3090: ")
    assert tight
    assert rest.endswith(": --engine.vae-tiling or --engine.offload model gives room")
    assert list(CARDS.values()) == sorted(CARDS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", one_quick(TEXT_MODELS))
def test_every_model_can_make_two_steps_of_its_largest_clip(
    name: str,
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
) -> None:
    model = tiny_resolved(name)
    engine = load_engine(model, device="cpu")
    made: list[Any] = []
    cached = dataclasses.replace(request_for(model), cache=CacheIdentity("planned", "{}", "1"))
    call = LargestCall(cached, 2)
    try_largest(lambda batch: made.extend(engine.generate(batch)), call, model.spec, "x")
    assert [clip.frames.shape for clip in made] == [(9, 64, 64, 3)] * 2
    assert [clip.cache["decisions"] for clip in made] == ["CC"] * 2
    engine.close()


def test_too_little_memory_is_an_error_of_the_start(large: SampleRequest) -> None:
    def full(batch: Sequence[SampleRequest]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(
        UserError, match=r"batch 3 runs out of the memory of L40S \(expected: .*use"
    ):
        try_largest(full, call_of(large, batch_rows=3), get_model(TWO), "L40S")


def test_a_gpu_is_checked_before_weights_are_read_and_tried_after(
    large: SampleRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of events in a process with a GPU."""
    events: list[str] = []

    class Engine:
        def __init__(self, *_: object, **__: object) -> None:
            events.append("loaded")

        def generate(self, batch: Sequence[SampleRequest]) -> None:
            events.append(f"made {len(batch)}")

    patch = monkeypatch.setattr
    patch(diffusers_engine, "pick_device", lambda _: torch.device("cuda"))
    patch(diffusers_engine, "load_pipeline", lambda *_, **__: events.append("weights"))
    patch(diffusers_engine, "DiffusersEngine", Engine)
    patch(torch.cuda, "empty_cache", lambda: None)
    model = ResolvedModel(get_model(TWO), "", "")
    patch(diffusers_engine, "device_memory", lambda _: (85e9, "H100"))
    load_engine(model, device="cuda", largest=call_of(large))
    assert events == ["weights", "loaded", "made 1"]
    patch(diffusers_engine, "device_memory", lambda _: (40e9, "A100"))
    with pytest.raises(UserError, match="A100 has 40"):
        load_engine(model, device="cuda", largest=call_of(large))
    assert events == ["weights", "loaded", "made 1"]
