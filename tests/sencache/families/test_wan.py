"""The cache on a real (tiny, random) WanPipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import WanPipeline

from sencache import (
    SampleStats,
    SenCacheConfig,
    SenCacheHandle,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)
from tests.sencache.support.toys import (
    TEXT_DIM,
    TEXT_TOKENS,
    CountRows,
    embeddings,
    euler,
    make_profile,
    sample,
    tiny_pipe,
    unipc,
)

PROFILE = make_profile([0.6, 0.5, 0.45], [3.0, 0.9, 0.4])
CONFIG = SenCacheConfig(epsilon=0.3, max_reuse=3, strict_fraction=0.1)
SEEDS = [0, 1, 2, 3]


def diverging(seeds: list[int]) -> dict[str, Any]:
    """Prompts ever farther from the negative one: guidance moves such rows at other speeds."""
    noise = [
        3 * seed * torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=generator)
        for seed, generator in ((seed, torch.Generator().manual_seed(seed)) for seed in seeds)
    ]
    return {"prompt_embeds": embeddings([99]) + torch.cat(noise), "guidance_scale": 20.0}


@pytest.fixture(params=[euler, unipc], ids=["euler", "unipc"], scope="module")
def pipe(request: pytest.FixtureRequest) -> WanPipeline:
    make: Callable[[], Any] = request.param
    return tiny_pipe(make())


@pytest.fixture(autouse=True)
def clean(pipe: WanPipeline) -> Iterator[None]:
    yield
    remove_sencache(pipe.transformer)


def apply(pipe: WanPipeline, config: SenCacheConfig = CONFIG) -> SenCacheHandle:
    profile: SensitivityProfile | None = PROFILE if config.may_reuse else None
    return apply_sencache(pipe.transformer, config, profile)


@pytest.mark.parametrize("config", [SenCacheConfig(epsilon=0.0), SenCacheConfig(policy="none")])
def test_without_reuse_the_clip_is_bit_identical(pipe: WanPipeline, config: SenCacheConfig) -> None:
    wanted = sample(pipe, SEEDS)
    handle = apply(pipe, config)
    assert torch.equal(sample(pipe, SEEDS), wanted)
    assert [stats.decisions for stats in handle.stats()] == ["C" * 12] * 4
    assert all(stats.nfe == 12 and stats.reused == 0 for stats in handle.stats())
    assert all(stats.refreshes == () for stats in handle.stats())  # measuring would cost a per cent


@pytest.mark.parametrize("guidance", [20.0, 1.0])
def test_nfe_is_what_really_ran(pipe: WanPipeline, guidance: float) -> None:
    counter = CountRows(pipe.transformer.patch_embedding)
    handle = apply(pipe)
    sample(pipe, SEEDS, **diverging(SEEDS) | {"guidance_scale": guidance})
    counter.remove()
    stats = handle.stats()
    branches = 2 if guidance > 1 else 1
    assert sum(counter.rows) == branches * sum(each.nfe for each in stats)
    assert all(each.nfe == each.decisions.count("C") for each in stats)
    assert all(each.nfe + each.reused == len(each.decisions) == 12 for each in stats)
    columns = list(zip(*(each.decisions for each in stats), strict=True))
    ran = [column.count("C") for column in columns if "C" in column]
    assert counter.rows == [rows for rows in ran for _ in range(branches)]


def test_every_row_of_a_batch_is_the_run_of_one(pipe: WanPipeline) -> None:
    uncached = sample(pipe, SEEDS, **diverging(SEEDS))
    handle = apply(pipe)
    together = sample(pipe, SEEDS, **diverging(SEEDS))
    stats = handle.stats()
    assert len({each.decisions for each in stats}) >= 3
    assert not torch.allclose(together, uncached, atol=1e-3)
    for row, seed in enumerate(SEEDS):
        alone = sample(pipe, [seed], **diverging([seed]))
        assert torch.allclose(alone[0], together[row], rtol=1e-4, atol=1e-4)
        (single,) = handle.stats()
        assert single.decisions == stats[row].decisions
        assert single.predicted_error == pytest.approx(stats[row].predicted_error, rel=1e-3)
        assert single.actual_error == pytest.approx(stats[row].actual_error, rel=1e-3)


def outcome(pipe: WanPipeline, handle: SenCacheHandle) -> tuple[torch.Tensor, list[SampleStats]]:
    return sample(pipe, [7, 8]), handle.stats()


class StopError(Exception):
    """Raised by a user's callback."""


@pytest.mark.parametrize("step", [0, 1, 6])
def test_neither_a_run_before_nor_one_that_raised_shows(pipe: WanPipeline, step: int) -> None:
    handle = apply(pipe)
    wanted, wanted_stats = outcome(pipe, handle)

    sample(pipe, [1, 2])
    again, stats = outcome(pipe, handle)
    assert torch.equal(again, wanted)
    assert stats == wanted_stats

    def stop(_pipe: Any, index: int, _t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise StopError
        return kwargs

    with pytest.raises(StopError):  # the same shapes: only step and time can tell the runs apart
        sample(pipe, [1, 2], callback_on_step_end=stop)
    assert [len(each.decisions) for each in handle.stats()] == [step + 1] * 2
    again, stats = outcome(pipe, handle)
    assert torch.equal(again, wanted)
    assert stats == wanted_stats


def test_a_network_that_raised_midway_does_not_show(pipe: WanPipeline) -> None:
    handle = apply(pipe)
    wanted, wanted_stats = outcome(pipe, handle)
    calls = 0

    def fail(_module: torch.nn.Module, _args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise RuntimeError("out of memory")

    broken = pipe.transformer.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        sample(pipe, [1, 2])
    broken.remove()
    again, stats = outcome(pipe, handle)
    assert torch.equal(again, wanted)
    assert stats == wanted_stats


def test_statistics_stay_after_the_call_and_follow_it(pipe: WanPipeline) -> None:
    handle = apply(pipe)
    sample(pipe, [0, 1, 2], steps=8)
    first = handle.stats()
    assert [len(stats.decisions) for stats in first] == [8] * 3
    assert {stats.profile for stats in first} == {PROFILE.hash}
    assert {stats.policy for stats in first} == {"paper"}
    sample(pipe, [0], steps=5)
    assert [len(stats.decisions) for stats in handle.stats()] == [5]


def test_reuse_grows_with_epsilon(pipe: WanPipeline) -> None:
    wanted = sample(pipe, SEEDS)
    nfe, errors = [], []
    for epsilon in (0.03, 0.1, 0.3, 1.0):
        handle = apply(pipe, SenCacheConfig(epsilon=epsilon, max_reuse=12))
        errors.append((sample(pipe, SEEDS) - wanted).square().mean().item())
        nfe.append(sum(stats.nfe for stats in handle.stats()))
        remove_sencache(pipe.transformer)
    assert nfe == sorted(nfe, reverse=True)
    assert nfe[0] > nfe[-1]
    assert errors == sorted(errors)


@pytest.mark.slow
def test_compiled_blocks_work_under_the_hook(pipe: WanPipeline) -> None:
    handle = apply(pipe)
    wanted, wanted_stats = sample(pipe, [0, 1], steps=6), handle.stats()
    counted = 0

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            nonlocal counted
            counted += 1
            return graph(*args)

        return run

    for block in pipe.transformer.blocks:
        block.compile(backend=backend)
    try:
        got, stats = sample(pipe, [0, 1], steps=6), handle.stats()
    finally:
        for block in pipe.transformer.blocks:
            block._compiled_call_impl = None
    assert counted > 0
    assert torch.allclose(got, wanted, atol=1e-5)
    assert [each.decisions for each in stats] == [each.decisions for each in wanted_stats]
