"""Pipelines that are only counted, runs that begin late, and guidance that ends in mid-run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import pytest
import torch

from sencache import (
    SenCacheConfig,
    UnknownTransformerError,
    apply_sencache,
    family_of,
    remove_sencache,
)
from sencache.pipelines import counted_networks_of
from tests.sencache.support.other_pipelines import OTHERS, STEPS, OtherPipeline
from tests.sencache.support.tiny_models import make_wan
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    TinyPipeline,
    fitting_profile,
    prompts,
)

NAMES = [each.name for each in OTHERS]
LARGE = {"unet", "ltx-2", "hunyuan-1.5"}
"""Pipelines of which a run takes long, however small the network is."""

BOTH_WAYS = {"wan-v2v", "skyreels", "sana", "unet"}
"""Calls without contexts, with contexts, of a network of its own, and of no transformer."""

LATE = [each for each in OTHERS if each.steps < STEPS]
ALWAYS = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=20)


@contextmanager
def counted(network: Any) -> Iterator[list[int]]:
    """The rows of each call that reaches the network's own forward."""
    rows: list[int] = []

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows.append(len(args[0]) if args else len(next(iter(kwargs.values()))))

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    yield rows
    hook.remove()


def without_reuse() -> Iterator[Any]:
    """Each pipeline with each way to reuse nothing; the second way is a variant for most."""
    slow, variant = pytest.mark.slow, pytest.mark.variant
    for other in OTHERS:
        large = other.name in LARGE
        exact = SenCacheConfig(epsilon=0.0)
        yield pytest.param(exact, other, id=other.name, marks=slow if large else ())
        marks = (slow,) if other.name in BOTH_WAYS else (slow, variant)
        yield pytest.param("lossless", other, id=f"{other.name}-lossless", marks=marks)


@pytest.mark.parametrize(("config", "other"), without_reuse())
def test_a_run_without_reuse_is_bit_identical_and_counted(
    other: OtherPipeline, config: Any
) -> None:
    pipe = other.make()
    for guidance in (True, False):
        wanted = other.run(pipe, guidance)
        cache = apply_sencache(pipe, config)
        for _ in range(2):
            assert torch.equal(other.run(pipe, guidance), wanted)
            assert [each.decisions for each in cache.stats()] == ["C" * other.steps] * 2
            expected = other.evaluations if guidance else other.unguided
            assert [each.evaluations for each in cache.stats()] == [expected] * 2
        assert len(str(cache.summary()).splitlines()) == 5
        remove_sencache(pipe)
    assert all("forward" not in vars(network) for network in counted_networks_of(pipe).values())


@pytest.mark.parametrize("other", OTHERS, ids=NAMES)
def test_outputs_of_unknown_networks_are_not_reused(other: OtherPipeline) -> None:
    pipe = other.make()
    (network,) = counted_networks_of(pipe).values()
    try:
        family_of(network)
    except UnknownTransformerError:
        with pytest.raises(ValueError, match=r"does not know|has no transformer") as told:
            apply_sencache(pipe, ALWAYS, fitting_profile(pipe, network))
        assert "\n" not in str(told.value)
        assert "forward" not in vars(network)


@pytest.mark.parametrize(
    ("other", "guidance"),
    [
        pytest.param(other, guidance, id=f"{other.name}-{guidance}")
        for other in LATE
        for guidance in (True, False)
    ],
)
def test_every_step_of_a_run_that_begins_late_is_counted_with_reuse(
    other: OtherPipeline, guidance: bool
) -> None:
    pipe = other.make()
    cache = apply_sencache(pipe, ALWAYS, fitting_profile(pipe))
    with counted(pipe.transformer) as calls:
        other.run(pipe, guidance)
    per_step = 2 if other.name == "wan-v2v" and guidance else 1
    assert len(calls) == other.steps * per_step
    assert [each.decisions for each in cache.stats()] == ["CRC"] * 2
    evaluations = 4 if guidance else 2
    assert [each.evaluations for each in cache.stats()] == [evaluations] * 2


class CallsTwice(diffusers.WanPipeline):
    """A loop that calls the network without contexts, and for each branch twice."""

    def __call__(self, steps: int) -> None:
        self.scheduler.set_timesteps(steps)
        latents = torch.randn(1, 4, 2, 4, 4)
        for time in self.scheduler.timesteps:
            for prompt in (0, 99, 0, 99):
                given = {"timestep": time[None], "encoder_hidden_states": prompts([prompt])}
                output = self.transformer(hidden_states=latents, **given).sample
            latents = self.scheduler.step(output, time, latents).prev_sample


def test_a_loop_with_more_calls_than_its_family_declares_is_refused() -> None:
    pipe = CallsTwice(**make_wan().components)
    apply_sencache(pipe, ALWAYS, fitting_profile(pipe))
    with pytest.raises(ValueError, match="was called 3 times at one step outside") as told:
        pipe(4)
    assert "do so 2 times, so the calls cannot be told apart" in str(told.value)


def test_two_unnamed_calls_need_a_scheduler_that_counts() -> None:
    (other,) = (each for each in OTHERS if each.name == "wan-v2v")
    pipe = other.make()
    pipe.scheduler = diffusers.DDIMScheduler()
    apply_sencache(pipe, ALWAYS, fitting_profile(pipe))
    with pytest.raises(ValueError, match="does not count its steps"):
        other.run(pipe)


def test_an_unnamed_call_without_guidance_is_the_guided_branch_alone() -> None:
    (other,) = (each for each in OTHERS if each.name == "wan-v2v")
    pipe = other.make()
    handle = apply_sencache(pipe, ALWAYS, fitting_profile(pipe))
    other.run(pipe, guidance=False)
    assert {each.evaluations for each in handle.stats()} == {2}


@pytest.mark.parametrize(
    "tiny", [tiny for tiny in PIPELINES if tiny.guidance == "two calls"], ids=lambda tiny: tiny.name
)
@pytest.mark.parametrize("config", [SenCacheConfig(policy="none"), ALWAYS])
def test_guidance_that_ends_in_mid_run_is_counted(
    tiny: TinyPipeline, config: SenCacheConfig
) -> None:
    pipe = tiny.make()
    scale = "_true_cfg_scale" if hasattr(type(pipe), "true_cfg_scale") else "_guidance_scale"

    def unguided(pipe: Any, step: int, _time: Any, _values: Any) -> dict[str, Any]:
        if step == 3:
            for name in (scale, "_guidance_scale_2"):
                setattr(pipe, name, 1.0)
        return {}

    cache = apply_sencache(pipe, config, fitting_profile(pipe))
    with counted(pipe.transformer), SumOfCalls(pipe, tiny) as sum_of_calls:
        tiny.run(pipe, [0, 1], callback_on_step_end=unguided)
    (decided,) = {each.decisions for each in cache.stats()}
    assert len(decided) == 8
    assert {each.evaluations for each in cache.stats()} == {sum_of_calls.rows // 2}


class SumOfCalls:
    """Rows that go through the first layer of the networks of a pipeline."""

    def __init__(self, pipe: Any, tiny: TinyPipeline) -> None:
        self.rows = 0
        self._networks = [getattr(pipe, name) for name in tiny.networks]
        self._hooks: list[Any] = []

    def __enter__(self) -> SumOfCalls:
        def note(_module: Any, args: tuple[Any, ...]) -> None:
            self.rows += len(args[0])

        for network in self._networks:
            layer = getattr(network, "patch_embedding", None) or network.x_embedder
            self._hooks.append(layer.register_forward_pre_hook(note))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
