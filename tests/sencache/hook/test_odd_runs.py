"""Runs that no sampler of ours makes: each computes plainly or says what is wrong."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler

from sencache import SenCacheConfig, apply_sencache, remove_sencache
from tests.sencache.support.driving import (
    LOOSE,
    TAUS,
    cached,
    decisions,
)
from tests.sencache.support.toys import (
    CountRows,
    LinearTransformer,
    make_profile,
    sample,
    tiny_pipe,
)


def call(
    transformer: LinearTransformer, tau: float, rows: int = 1, context: str = "cond"
) -> torch.Tensor:
    """One call of a pipeline that publishes nothing, at latents that follow the time."""
    x = torch.full((rows, 2, 3, 4), 5.0 + tau)
    with transformer.cache_context(context):
        output: torch.Tensor = transformer(
            x, torch.full((rows,), 1000 * tau), torch.zeros(rows), return_dict=False
        )[0]
    return output


def test_a_run_of_one_step_computes_it() -> None:
    pipe = tiny_pipe()
    plain = sample(pipe, [1, 2], steps=1)
    handle = apply_sencache(pipe, LOOSE, make_profile(num_inference_steps=1))
    assert torch.equal(sample(pipe, [1, 2], steps=1), plain)
    assert decisions(handle) == ["C", "C"]


@pytest.mark.parametrize("strict", [0.0, 0.2])
def test_heun_is_cached_call_by_call(strict: float) -> None:
    """It calls the network twice at every time but the first."""
    pipe = tiny_pipe(FlowMatchHeunDiscreteScheduler(shift=3.0))
    plain = sample(pipe, [1, 2], steps=6)
    profile = make_profile(sampler="FlowMatchHeunDiscreteScheduler", num_inference_steps=11)
    apply_sencache(pipe, SenCacheConfig(epsilon=0.0), profile)
    assert torch.equal(sample(pipe, [1, 2], steps=6), plain)
    remove_sencache(pipe)
    config = SenCacheConfig(epsilon=1e9, strict_epsilon=0.0, strict_fraction=strict, max_reuse=1)
    handle = apply_sencache(pipe, config, profile)
    counter = CountRows(pipe.transformer.patch_embedding)
    clips = sample(pipe, [1, 2], steps=6)
    wanted = "CRCRCRCRCRC" if strict == 0.0 else "CCRCRCRCRCC"
    assert decisions(handle) == [wanted] * 2
    assert counter.rows == [2] * 2 * wanted.count("C")
    assert torch.isfinite(clips).all()


def test_a_sampler_that_goes_back_in_time_begins_a_run() -> None:
    """Nothing published: what was held belongs to a later time, so nothing of it is reused."""
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=9, num_inference_steps=10)
    transformer, handle = cached(config)
    for tau in (1.0, 0.9, 0.8, 1.0, 0.9, 0.8, 0.7):
        call(transformer, tau)
    assert decisions(handle) == ["CRRR"]
    assert transformer.calls == [1, 1]


def test_a_published_run_that_goes_back_in_time_computes_there() -> None:
    transformer, handle = cached(LOOSE)
    for step, tau in enumerate([1.0, 0.9, 0.95, 0.8, 0.7]):
        with transformer.cache_context("cond", step_index=step, num_inference_steps=10):
            transformer(torch.ones(1, 2, 3, 4), torch.tensor([1000 * tau]), torch.zeros(1))
    assert decisions(handle) == ["CRCRR"]


@pytest.mark.parametrize("context", ["cond", "cond_uncond"])
def test_a_batch_that_changes_size_midway_begins_a_run(context: str) -> None:
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=9, num_inference_steps=10)
    transformer, handle = cached(config)
    for rows, tau in zip((4, 4, 4, 2, 2, 6), TAUS, strict=False):
        output = call(transformer, tau, rows, context)
        assert output.shape[0] == rows
    # The second run has no first step at the top of a schedule, and no scheduler to tell its end.
    assert transformer.calls == [4, 2, 2, 6]
    assert len(handle.stats()) == (6 if context == "cond" else 3)
    fresh, _ = cached(config)
    assert torch.equal(output, call(fresh, TAUS[5], 6, context))


def test_latents_of_nan_from_the_start_compute_and_stay_where_they_are() -> None:
    pipe = tiny_pipe()
    handle = apply_sencache(pipe, LOOSE, make_profile())
    clean = sample(pipe, [1], steps=8)
    noise = torch.randn(2, *clean.shape[1:], generator=torch.Generator().manual_seed(1))
    noise[1] = torch.nan
    mixed = sample(pipe, [1, 2], steps=8, latents=noise)
    assert handle.stats()[1].decisions == "C" * 8
    assert "R" in handle.stats()[0].decisions
    assert torch.isfinite(mixed[0]).all()
    alone = sample(pipe, [1], steps=8, latents=noise[:1])
    assert torch.allclose(mixed[:1], alone, atol=1e-5)
