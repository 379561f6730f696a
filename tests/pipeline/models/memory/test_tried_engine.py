"""The largest call of a run whose texts are encoded elsewhere."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from pipeline.engine import factory
from pipeline.errors import UserError
from pipeline.models.engine_options import EngineOptions
from pipeline.models.memory.preflight import LargestCall
from pipeline.models.memory.tried_engine import TriedEngine
from pipeline.models.registry import get_model
from pipeline.models.spec import ResolvedModel
from pipeline.models.text_encoders import failed_text
from pipeline.requests.sample_request import SampleRequest

SPEC = get_model("wan2.1-t2v-1.3b")
TEXTS = b"T" + b"tensors"


class SpyEngine:
    """Notes the calls that it gets."""

    device_name, group_size, on_gpu = "L40S", 1, True

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int, bytes]] = []

    def generate(self, requests: Sequence[SampleRequest]) -> list[Any]:
        first = requests[0]
        self.calls.append((first.width, first.num_inference_steps, len(requests), first.texts))
        return list(requests)

    def close(self) -> None:
        """Nothing to free."""
        self.calls.append((0, 0, 0, b"closed"))


@pytest.fixture
def small(request_for: Callable[..., SampleRequest], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    made = request_for(ResolvedModel(SPEC, "", ""), width=64, num_inference_steps=5)
    return dataclasses.replace(made, texts=TEXTS)


def largest_of(small: SampleRequest) -> LargestCall:
    return LargestCall(dataclasses.replace(small, width=832, texts=b""), 3)


def test_the_trial_comes_before_the_first_batch_and_only_once(small: SampleRequest) -> None:
    spy = SpyEngine()
    engine = TriedEngine(spy, largest_of(small), SPEC)
    assert engine.generate([small, small]) == [small, small]
    engine.generate([small])
    engine.close()
    made, closed = spy.calls[:-1], spy.calls[-1]
    assert made == [(832, 2, 3, TEXTS), (64, 5, 2, TEXTS), (64, 5, 1, TEXTS)]
    assert closed[3] == b"closed"


def test_a_text_that_could_not_be_encoded_is_tried_by_nobody(small: SampleRequest) -> None:
    spy = SpyEngine()
    engine = TriedEngine(spy, largest_of(small), SPEC)
    failed = dataclasses.replace(small, texts=failed_text(ValueError("too odd")))
    engine.generate([failed])
    assert len(spy.calls) == 1
    engine.generate([small])
    assert [width for width, *_ in spy.calls] == [64, 832, 64]


def test_too_little_memory_ends_the_run_before_the_first_clip(small: SampleRequest) -> None:
    class FullEngine(SpyEngine):
        def generate(self, requests: Sequence[SampleRequest]) -> list[Any]:
            super().generate(requests)
            raise torch.OutOfMemoryError("CUDA out of memory")

    spy = FullEngine()
    with pytest.raises(UserError, match="runs out of the memory of L40S"):
        TriedEngine(spy, largest_of(small), SPEC).generate([small])
    assert len(spy.calls) == 1


def test_calls_that_overlap_share_one_trial_of_two_calls(small: SampleRequest) -> None:
    both = threading.Barrier(2, timeout=60)

    class Overlapping(SpyEngine):
        def generate(self, requests: Sequence[SampleRequest]) -> list[Any]:
            if requests[0].width == 832:
                both.wait()  # only two at once come through
            return super().generate(requests)

    spy = Overlapping()
    engine = TriedEngine(spy, largest_of(small), SPEC, calls=2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(engine.generate, [[small], [small]]))
    assert [width for width, *_ in spy.calls] == [832, 832, 64, 64]


@pytest.mark.parametrize(("parts", "kind"), [("all", SpyEngine), ("clips", TriedEngine)])
def test_an_engine_without_text_encoders_is_tried_later(
    parts: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.engine.diffusers_engine.load_engine", lambda *_, **__: SpyEngine()
    )
    model = ResolvedModel(SPEC, "", "", parts=parts)  # type: ignore[arg-type]
    made = factory._load_engine(model, options=EngineOptions(), largest=None)
    assert type(made) is kind
