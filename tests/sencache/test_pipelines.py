"""The cache on a tiny pipeline of every supported family: what has to hold for all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sencache import remove_sencache
from sencache.families.registry import family_of
from tests.sencache.support.applied import (
    EVERY_ONE,
    GUIDANCE,
    GUIDED,
    apply,
    calls_of_a_step,
    counted,
    decisions,
    error,
    networks,
    recorded_call,
)
from tests.sencache.support.tiny_models import DIM, TOKENS
from tests.sencache.support.tiny_pipelines import (
    STEPS,
    TinyPipeline,
    tiny_param,
)


@GUIDANCE
def test_the_pipelines_are_alive(tiny: TinyPipeline, pipe: Any, guidance: bool) -> None:
    """Else the other tests would prove nothing: noise, time, text and guidance all tell."""
    plain = tiny.run(pipe, [0, 1], guidance=guidance)
    assert plain.isfinite().all()
    assert 0.3 < plain.square().mean().sqrt() < 100

    def changed(new: torch.Tensor) -> bool:
        return error(new, plain[:1]) > 0.02

    assert changed(plain[1:])
    noise = {"generator": [torch.Generator().manual_seed(50)]}
    assert changed(tiny.run(pipe, [0], guidance=guidance, **noise))
    text = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(51))
    assert changed(tiny.run(pipe, [0], guidance=guidance, prompt_embeds=text))
    if tiny.guidance != "none":
        assert changed(tiny.run(pipe, [0], guidance=not guidance))
    call = recorded_call(tiny, pipe, guidance)
    moved = call | {"timestep": call["timestep"] * 0.5 + 100}
    network = networks(tiny, pipe)[0]
    with torch.no_grad():
        assert error(network(**moved)[0], network(**call)[0]) > 0.02


@EVERY_ONE
def test_without_reuse_the_clip_is_bit_identical(tiny: TinyPipeline, pipe: Any) -> None:
    check_without_reuse(tiny, pipe, guidance=True)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", [tiny_param(tiny, by_network=True) for tiny in GUIDED])
def test_without_reuse_and_guidance_the_clip_is_bit_identical(
    tiny: TinyPipeline, pipe: Any
) -> None:
    check_without_reuse(tiny, pipe, guidance=False)


def check_without_reuse(tiny: TinyPipeline, pipe: Any, guidance: bool) -> None:
    wanted = tiny.run(pipe, [0, 1, 2], guidance=guidance)
    for options in ({"epsilon": 0.0}, {"epsilon": 0.0, "reuse": "residual"}, {"policy": "none"}):
        handle = apply(pipe, **options)
        assert torch.equal(tiny.run(pipe, [0, 1, 2], guidance=guidance), wanted)
        assert decisions(handle) == ["C" * STEPS] * 3


@GUIDANCE
@pytest.mark.parametrize(
    ("max_reuse", "reuse", "pattern", "experts"),
    [
        pytest.param(1, "output", "CRCRCRCC", "CRCCRCRC", marks=pytest.mark.variant),
        (2, "residual", "CRRCRRCC", "CRRCRRCC"),
        (9, "output", "CRRRRRRC", "CRRCRRRC"),
    ],
)
def test_the_network_runs_exactly_where_the_rule_says(
    tiny: TinyPipeline,
    pipe: Any,
    max_reuse: int,
    reuse: str,
    pattern: str,
    experts: str,
    guidance: bool,
) -> None:
    """First and last step compute, and so does the first of the second network of Wan 2.2."""
    if len(tiny.networks) > 1:
        pattern = experts  # three steps of the first network, then five of the second
    handle = apply(pipe, max_reuse=max_reuse, reuse=reuse)
    with counted(tiny, pipe) as rows:
        tiny.run(pipe, [0, 1, 2], guidance=guidance)
    assert decisions(handle) == [pattern] * 3
    assert rows == calls_of_a_step(tiny, 3, guidance) * pattern.count("C")
    branches = sum(calls_of_a_step(tiny, 1, guidance))
    assert {each.evaluations for each in handle.stats()} == {branches * pattern.count("C")}


@GUIDANCE
def test_a_bare_network_counts_the_steps_it_is_told(
    tiny: TinyPipeline, pipe: Any, guidance: bool
) -> None:
    """Without the pipeline there is no scheduler to ask."""
    handle = apply(pipe.transformer, num_inference_steps=STEPS)
    tiny.run(pipe, [0, 1, 2], guidance=guidance)
    pattern = "CRR" if len(tiny.networks) > 1 else "CRRCRRCC"
    assert decisions(handle) == [pattern] * 3


class StopError(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize(
    ("step", "reuse"),
    [pytest.param(0, "output", marks=pytest.mark.variant), (3, "output"), (3, "residual")],
)
def test_a_run_that_a_callback_broke_off_does_not_show(
    tiny: TinyPipeline, pipe: Any, step: int, reuse: str
) -> None:
    apply(pipe, reuse=reuse)
    wanted = tiny.run(pipe, [0, 1])

    def stop(_pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise StopError
        return values

    handle = apply(pipe, reuse=reuse)
    with pytest.raises(StopError):
        tiny.run(pipe, [2, 3], callback_on_step_end=stop)
    assert torch.equal(tiny.run(pipe, [0, 1]), wanted)
    assert all(len(each) == STEPS for each in decisions(handle))


@pytest.mark.parametrize(
    ("at_call", "reuse"),
    [(0, "output"), pytest.param(1, "residual", marks=pytest.mark.variant), (3, "output")],
)
def test_a_run_that_the_network_broke_off_does_not_show(
    tiny: TinyPipeline, pipe: Any, at_call: int, reuse: str
) -> None:
    apply(pipe, max_reuse=1, reuse=reuse)
    wanted = tiny.run(pipe, [0, 1])
    handle = apply(pipe, max_reuse=1, reuse=reuse)
    network, calls = networks(tiny, pipe)[-1], 0

    def fail(_module: Any, _args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > at_call:
            raise StopError

    block = getattr(network, family_of(network).blocks[-1])[-1]
    hook = block.register_forward_pre_hook(fail)
    with pytest.raises(StopError):
        tiny.run(pipe, [2, 3])
    hook.remove()
    assert torch.equal(tiny.run(pipe, [0, 1]), wanted)
    assert all(len(each) == STEPS for each in decisions(handle))


def test_low_precision_runs_and_is_exact_without_reuse(tiny: TinyPipeline) -> None:
    pipe = tiny.make().to(torch.bfloat16)
    wanted = tiny.run(pipe, [0, 1], dtype=torch.bfloat16)
    apply(pipe, epsilon=0.0)
    assert torch.equal(tiny.run(pipe, [0, 1], dtype=torch.bfloat16), wanted)
    handle = apply(pipe, max_reuse=1)
    got = tiny.run(pipe, [0, 1], dtype=torch.bfloat16)
    assert got.dtype == wanted.dtype
    assert got.isfinite().all()
    pattern = "CRCCRCRC" if len(tiny.networks) > 1 else "CRCRCRCC"
    assert decisions(handle) == [pattern] * 2


@pytest.mark.parametrize(("return_dict", "reuse"), [(True, "output"), (False, "residual")])
def test_answers_come_in_the_form_that_was_asked_for(
    tiny: TinyPipeline, pipe: Any, return_dict: bool, reuse: str
) -> None:
    network = networks(tiny, pipe)[0]
    call = recorded_call(tiny, pipe)
    contexts = family_of(network).contexts
    context = next(name for name in contexts if "cond" in contexts[name])
    handle = apply(network, num_inference_steps=STEPS, reuse=reuse)
    later = call["timestep"] * 0.5 + 250  # on its way, whether times rise or fall
    with torch.no_grad():
        for timestep in (call["timestep"], later):
            with network.cache_context(context):
                answer = network(**call | {"timestep": timestep, "return_dict": return_dict})
            assert isinstance(answer, tuple) is not return_dict
            assert (answer.sample if return_dict else answer[0]).isfinite().all()
    assert {each.decisions for each in handle.stats()} == {"CR"}


@pytest.mark.parametrize("reuse", ["output", "residual"])
def test_taking_the_cache_off_leaves_no_trace(tiny: TinyPipeline, reuse: str) -> None:
    pipe = tiny.make()
    wanted = tiny.run(pipe, [0])  # looks for hooks at its end, for which diffusers keeps a registry
    modules = [module for network in networks(tiny, pipe) for module in network.modules()]
    before = [dict(vars(module)) for module in modules]
    apply(pipe, reuse=reuse)
    tiny.run(pipe, [0])
    remove_sencache(pipe)
    for module, fields in zip(modules, before, strict=True):
        now = dict(vars(module))
        registry = now.pop("_diffusers_hook", None)
        assert registry is None or registry.hooks == {}
        fields.pop("_diffusers_hook", None)
        assert set(now) == set(fields)
        assert all(now[name] is fields[name] for name in now)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert torch.equal(tiny.run(pipe, [0]), wanted)
