"""The cache beside what else is done to a pipeline: LoRA, compiled blocks, other pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from diffusers import WanPipeline
from diffusers.hooks import FirstBlockCacheConfig

from sencache import SenCacheConfig, apply_sencache, remove_sencache
from tests.sencache.support.tiny_pipelines import PIPELINES, TinyPipeline, fitting_profile
from tests.sencache.support.toys import make_profile, sample, tiny_pipe

CONFIG = SenCacheConfig(epsilon=1e9, max_reuse=1, strict_fraction=0.0)
EXACT = SenCacheConfig(epsilon=0.0)
REUSES = pytest.mark.parametrize("reuse", ["output", "residual"])


def named(name: str) -> TinyPipeline:
    return next(tiny for tiny in PIPELINES if tiny.name == name)


def lora() -> dict[str, torch.Tensor]:
    """Weights of an adapter as they are in a file."""
    trained = tiny_pipe().transformer
    trained.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(0)
    weights = peft.get_peft_model_state_dict(trained)
    return {
        f"transformer.{name}": torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
    }


def runs(pipe: WanPipeline, actions: list[Callable[[], Any]]) -> list[torch.Tensor]:
    """A clip before the first action and after each."""
    clips = [sample(pipe, [0, 1], steps=6)]
    for act in actions:
        act()
        clips.append(sample(pipe, [0, 1], steps=6))
    return clips


@pytest.mark.slow
def test_a_lora_may_come_and_go_while_the_cache_is_on() -> None:
    """An adapter puts other layers in the place of those that the network has."""
    weights = lora()

    def actions(pipe: WanPipeline) -> list[Callable[[], Any]]:
        return [
            lambda: pipe.load_lora_weights(dict(weights), adapter_name="style"),
            lambda: pipe.set_adapters(["style"], [0.5]),
            pipe.fuse_lora,
            pipe.unfuse_lora,
            pipe.unload_lora_weights,
        ]

    plain = tiny_pipe()
    wanted = runs(plain, actions(plain))
    assert not torch.allclose(wanted[0], wanted[1], atol=1e-2)
    assert torch.allclose(wanted[0], wanted[-1], atol=1e-5)

    cached = tiny_pipe()
    handle = apply_sencache(cached, EXACT)
    for got, want in zip(runs(cached, actions(cached)), wanted, strict=True):
        assert torch.equal(got, want)
        assert [each.decisions for each in handle.stats()] == ["C" * 6] * 2


@REUSES
def test_a_cache_reuses_under_a_lora(reuse: Any) -> None:
    pipe = tiny_pipe()
    pipe.load_lora_weights(lora(), adapter_name="style")
    pipe.load_lora_weights(lora(), adapter_name="more")
    config = SenCacheConfig(epsilon=1e9, max_reuse=1, strict_fraction=0.0, reuse=reuse)
    handle = apply_sencache(pipe, config, make_profile(num_inference_steps=6))
    wanted = sample(pipe, [0], steps=6)
    pipe.delete_adapters("more")
    assert torch.equal(sample(pipe, [0], steps=6), wanted)
    assert [each.decisions for each in handle.stats()] == ["CRCRCC"]


@pytest.mark.slow
@pytest.mark.parametrize("reuse", ["output", "residual"])
@pytest.mark.parametrize("cache_first", [True, False], ids=["cache first", "compiled first"])
@pytest.mark.parametrize("name", ["wan", pytest.param("hunyuan", marks=pytest.mark.variant)])
def test_compiled_blocks_compute_as_ever(name: str, cache_first: bool, reuse: Any) -> None:
    tiny = named(name)
    config = SenCacheConfig(epsilon=1e9, max_reuse=1, strict_fraction=0.0, reuse=reuse)

    def apply(pipe: Any) -> Any:
        return apply_sencache(pipe, config, fitting_profile(pipe))

    plain = tiny.make()
    apply(plain)
    wanted = tiny.run(plain, [0, 1])

    calls = 0

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        """What "eager" does, and tells that it was used."""

        def run(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            return graph(*args)

        return run

    pipe = tiny.make()
    steps = [lambda: pipe.transformer.compile_repeated_blocks(backend=backend)]
    handles = []
    steps.insert(0 if cache_first else 1, lambda: handles.append(apply(pipe)))
    torch._dynamo.reset()
    for step in steps:
        step()
    assert torch.allclose(tiny.run(pipe, [0, 1]), wanted, atol=1e-4)
    assert [each.decisions for each in handles[0].stats()] == ["CRCRCRCC"] * 2
    assert calls > 0
    remove_sencache(pipe)
    assert torch.allclose(tiny.run(pipe, [0, 1]), tiny.run(tiny.make(), [0, 1]), atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize("others", [("wan", "wan"), ("wan", "ltx"), ("mochi", "hunyuan-cfg")])
def test_pipelines_in_one_process_do_not_meet(others: tuple[str, str]) -> None:
    """One is sampled between two steps of the other."""
    tinies = [named(name) for name in others]

    def make(tiny: TinyPipeline) -> tuple[Any, Any]:
        pipe = tiny.make()
        return pipe, apply_sencache(pipe, CONFIG, fitting_profile(pipe))

    alone = [tiny.run(make(tiny)[0], [0, 1]) for tiny in tinies]
    (outer, outer_handle), (inner, inner_handle) = (make(tiny) for tiny in tinies)
    nested = []

    def between(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step in (0, 3):
            nested.append(tinies[1].run(inner, [0, 1]))
        return values

    together = tinies[0].run(outer, [0, 1], callback_on_step_end=between)
    assert torch.equal(together, alone[0])
    assert all(torch.equal(clip, alone[1]) for clip in nested)
    for handle in (outer_handle, inner_handle):
        assert [each.decisions for each in handle.stats()] == ["CRCRCRCC"] * 2


def test_another_cache_on_one_of_two_networks_is_refused_and_nothing_is_applied() -> None:
    pipe = named("wan-experts").make()
    pipe.transformer_2.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"FirstBlockCacheConfig.*disable_cache"):
        apply_sencache(pipe, EXACT)
    assert not pipe.transformer.is_cache_enabled
    pipe.transformer_2.disable_cache()
    apply_sencache(pipe, EXACT)
    for network in (pipe.transformer, pipe.transformer_2):
        with pytest.raises(ValueError, match="already been enabled"):
            network.enable_cache(FirstBlockCacheConfig())
