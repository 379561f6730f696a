"""Converged runs: how many steps they take, and that they are made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality import references
from jobs.benchmarks.quality.denoising import ClipBatch, make_batches
from jobs.benchmarks.quality.references import ConvergedSteps, ReferenceStore
from jobs.benchmarks.quality.splits import ClipSpec
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest

WAN = "wan2.1-t2v-1.3b"


@pytest.fixture
def batch(
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> ClipBatch:
    monkeypatch.setattr(references, "FIRST_STEPS", 4)
    monkeypatch.setattr(references, "MOST_STEPS", 32)
    model = tiny_resolved(WAN)
    pipe = load_pipeline(model, "cpu")
    bench = Bench(model, pipe, request_for(model))
    clips = [ClipSpec("a dog", 1), ClipSpec("a cat", 2)]
    return make_batches(bench, clips, 2, dict(pipe.scheduler.config))[0]


@pytest.fixture
def no_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: Any) -> None:
        raise AssertionError("made again")

    return lambda: monkeypatch.setattr(ClipBatch, "denoise", refuse)


def test_latents_are_made_once(
    batch: ClipBatch, tmp_path: Path, no_runs: Callable[[], None]
) -> None:
    store = ReferenceStore(tmp_path)
    made = store.latents(batch, 4)
    other = store.latents(batch, 6)
    assert not torch.equal(made, other)
    no_runs()
    assert torch.equal(store.latents(batch, 4), made)
    one = dataclasses.replace(batch, requests=batch.requests[1:], loop=batch.loop.take(1, 1))
    assert torch.equal(store.latents(one, 4), made[1:])  # whatever the batch


@pytest.mark.parametrize("change", ["seed", "prompt", "guidance_scale", "sampler"])
def test_another_clip_is_another_reference(
    batch: ClipBatch, tmp_path: Path, no_runs: Callable[[], None], change: str
) -> None:
    store = ReferenceStore(tmp_path)
    store.latents(batch, 4)
    values: dict[str, Any] = {
        "seed": 9,
        "prompt": "a bird",
        "guidance_scale": 4.5,
        "sampler": "UniPCMultistepScheduler/5.0",
    }
    requests = (dataclasses.replace(batch.requests[0], **{change: values[change]}),)
    no_runs()
    with pytest.raises(AssertionError, match="made again"):
        store.latents(dataclasses.replace(batch, requests=requests), 4)


def test_the_samplers_of_a_model_share_their_references(
    batch: ClipBatch, tmp_path: Path, no_runs: Callable[[], None]
) -> None:
    store = ReferenceStore(tmp_path)
    made = store.latents(batch, 4)
    euler = tuple(
        dataclasses.replace(request, sampler="FlowMatchEulerDiscreteScheduler/8.0")
        for request in batch.requests
    )
    assert batch.requests[0].sampler == "UniPCMultistepScheduler/8.0"
    no_runs()
    assert torch.equal(store.latents(dataclasses.replace(batch, requests=euler), 4), made)


def test_steps_are_doubled_until_the_clips_stay(
    batch: ClipBatch, tmp_path: Path, no_runs: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "CONVERGED_DB", 1.0)
    notes: list[str] = []
    found = ReferenceStore(tmp_path).steps(batch, notes.append)
    assert found.steps == 4
    assert found.reached
    assert found.scheduler == "FlowMatchHeunDiscreteScheduler"
    assert list(found.change_db) == ["4"]
    assert len(notes) == 1
    assert notes[0].startswith("converged reference: 4 against 8 steps")
    no_runs()
    assert ReferenceStore(tmp_path).steps(batch, notes.append) == found


@pytest.mark.slow
def test_a_search_without_end_ends_and_says_so(
    batch: ClipBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "CONVERGED_DB", 1000.0)
    found = ReferenceStore(tmp_path).steps(batch, lambda _: None)
    assert found.steps == 16
    assert list(found.change_db) == ["4", "8", "16"]
    assert not found.reached
    assert not ConvergedSteps(100).reached
