"""Batches of every family: decoding is the pipeline's own, baselines leave no trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from jobs.benchmarks.baselines import SenCachePaper
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.denoising import (
    CONVERGED,
    ClipBatch,
    DenoisingRun,
    make_batches,
)
from jobs.benchmarks.quality.splits import ClipSpec
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from sencache import SenCacheConfig, SensitivityProfile

CLIPS = [ClipSpec("a dog", 1), ClipSpec("a cat", 2), ClipSpec("a bird", 3)]


@pytest.fixture
def batches_of(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> Callable[[str], list[ClipBatch]]:
    def make(name: str) -> list[ClipBatch]:
        model = tiny_resolved(name)
        pipe = load_pipeline(model, "cpu")
        bench = Bench(model, pipe, request_for(model, num_inference_steps=4))
        return make_batches(bench, CLIPS, 2, dict(pipe.scheduler.config))

    return make


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "cogvideox-2b", "ltx-video", "hunyuanvideo"])
def test_latents_are_decoded_as_the_pipeline_would(
    batches_of: Callable[[str], list[ClipBatch]], name: str
) -> None:
    batches = batches_of(name)
    assert [len(batch.requests) for batch in batches] == [2, 1]
    batch = batches[0]
    sampler = batch.requests[0].sampler
    frames = batch.decode(batch.denoise(DenoisingRun(sampler, 4)).latents)
    wanted = batch.bench.run(batch.requests, "pt")
    for clip, reference in zip(frames, wanted, strict=True):
        assert torch.allclose(clip, reference, atol=1e-4)


@pytest.mark.slow
def test_a_converged_run_has_its_own_solver(batches_of: Callable[[str], list[ClipBatch]]) -> None:
    batch = batches_of("wan2.1-t2v-1.3b")[0]
    sampler = batch.requests[0].sampler
    fine, finer = (batch.denoise(DenoisingRun(CONVERGED, steps)).latents for steps in (40, 80))
    assert type(batch.loop.pipe.scheduler).__name__ == "FlowMatchHeunDiscreteScheduler"
    coarse = batch.denoise(DenoisingRun(sampler, 4)).latents
    assert (fine - finer).norm() < 0.2 * (coarse - finer).norm()


def test_a_rival_is_put_on_for_its_run_only(
    batches_of: Callable[[str], list[ClipBatch]], profile: SensitivityProfile
) -> None:
    batch = batches_of("wan2.1-t2v-1.3b")[0]
    sampler = batch.requests[0].sampler
    rule = SenCachePaper(profile, SenCacheConfig(epsilon=1e6, strict_epsilon=1e6, max_reuse=1))
    plain = batch.denoise(DenoisingRun(sampler, 4))
    cached = batch.denoise(DenoisingRun(sampler, 4, rule))
    assert plain.decisions == ["CCCC"] * 2
    assert cached.decisions == ["CRCC"] * 2
    assert not torch.equal(plain.latents, cached.latents)
    assert torch.equal(plain.latents, batch.denoise(DenoisingRun(sampler, 4)).latents)
