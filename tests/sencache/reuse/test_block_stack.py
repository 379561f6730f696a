"""Reuse of the blocks' residual on random networks of every family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.hooks import HookRegistry

from sencache import SenCacheConfig, apply_sencache
from sencache.families.registry import OFFICIAL_SETTINGS, family_of
from sencache.families.wan import WAN
from sencache.profiles.official import OfficialProfile
from sencache.reuse.block_stack import BlockStack
from tests.sencache.support.oracle import official_decisions
from tests.sencache.support.tiny_networks import (
    NETWORKS,
    ROWS,
    build,
    inputs,
    pick,
    tiny_vace,
)
from tests.sencache.support.toys import tiny_wan

every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name: str, end: str | None = None) -> tuple[torch.nn.Module, BlockStack]:
    network = build(name)
    stack = BlockStack(network, family_of(network), end)
    stack.attach()
    return network, stack


@torch.no_grad()
def run(network: torch.nn.Module, arguments: dict[str, Any], context: Any = None) -> torch.Tensor:
    with context or nullcontext():
        output: torch.Tensor = network(**arguments)[0]
    return output


def blocks_of(network: torch.nn.Module) -> list[torch.nn.Module]:
    return [block for name in family_of(network).blocks for block in getattr(network, name)]


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[list[str]]:
    """Names of the block submodules that really run."""
    ran: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda *_args, name=name: ran.append(name))
        for name, module in network.named_modules()
        if "blocks." in name and "refiner" not in name and not list(module.children())
    ]
    yield ran
    for handle in handles:
        handle.remove()


@every_network
def test_a_replay_of_the_same_step_is_the_step(name: str) -> None:
    network, stack = make(name)
    arguments = inputs(name, 1)
    plain = run(build(name), arguments)
    assert torch.equal(run(network, arguments, stack.record()), plain)
    residual = stack.residual
    assert residual is not None
    assert residual.shape[0] == ROWS
    assert residual.abs().mean() > 0.01  # so that a replay without it would be seen
    with counted(network) as ran:
        replayed = run(network, arguments, stack.replay(residual))
    assert ran == []
    torch.testing.assert_close(replayed, plain, atol=1e-5, rtol=1e-5)
    with counted(network) as ran:
        run(network, arguments, stack.record())
    assert len(ran) >= len(blocks_of(network))


@every_network
def test_embeddings_and_head_run_anew(name: str) -> None:
    network, stack = make(name)
    before, now = inputs(name, 1), inputs(name, 2)
    run(network, before, stack.record())
    residual = stack.residual
    assert residual is not None
    # The same by hand: blocks that do nothing, and a last one that adds the residual.
    plain = build(name)
    with counted(plain) as ran:
        by_hand = with_blocks_that_add(plain, now, residual)
    assert ran == []
    torch.testing.assert_close(run(network, now, stack.replay(residual)), by_hand)


def with_blocks_that_add(
    network: torch.nn.Module, arguments: dict[str, Any], residual: torch.Tensor
) -> torch.Tensor:
    blocks = blocks_of(network)
    pairs = {"CogVideoXBlock", "MochiTransformerBlock"}
    for block in blocks:

        def forward(*args: Any, block: torch.nn.Module = block, **kwargs: Any) -> Any:
            tokens, text = (*args, *kwargs.values())[:2]
            tokens = tokens + residual if block is blocks[-1] else tokens
            paired = type(block).__name__ in pairs or "Hunyuan" in type(block).__name__
            return (tokens, text) if paired else tokens

        block.forward = forward
    for block in getattr(network, "vace_blocks", []):
        block.forward = lambda tokens, _text, control, *_rest: (0 * tokens, control)
    return run(network, arguments)


@every_network
def test_nothing_changes_outside_of_record_and_replay(name: str) -> None:
    network, stack = make(name)
    arguments = inputs(name, 1)
    plain = run(build(name), arguments)
    assert torch.equal(run(network, arguments), plain)
    assert stack.residual is None
    run(network, arguments, stack.record())
    assert torch.equal(run(network, arguments), plain)


@every_network
def test_each_row_has_its_own_residual(name: str) -> None:
    """Rows recorded at different steps, replayed together and alone."""
    network, stack = make(name)
    steps = [inputs(name, seed) for seed in (1, 2)]
    run(network, steps[0], stack.record())
    first = stack.residual
    run(network, pick(steps[1], [2, 0]), stack.record())
    second = stack.residual
    assert first is not None
    assert second is not None
    kept = first.clone()
    kept[[2, 0]] = second
    now = inputs(name, 3)
    together = run(network, now, stack.replay(kept))
    for row, step in enumerate((1, 0, 1)):
        alone, lone = make(name)
        run(alone, pick(steps[step], [row]), lone.record())
        assert lone.residual is not None
        expected = run(alone, pick(now, [row]), lone.replay(lone.residual))
        torch.testing.assert_close(together[[row]], expected, atol=1e-5, rtol=1e-4)


@every_network
@pytest.mark.parametrize("registry_before", [False, True])
def test_detaching_leaves_no_trace(name: str, registry_before: bool) -> None:
    network = build(name)
    if registry_before:
        for block in blocks_of(network):
            HookRegistry.check_if_exists_or_initialize(block)
        HookRegistry.check_if_exists_or_initialize(network)._get_child_registries()
    modules = list(network.modules())
    before = [dict(vars(module)) for module in modules]
    stack = BlockStack(network, family_of(network), "norm_out" if name == "ltx" else None)
    stack.attach()
    stack.attach()
    registry = HookRegistry.check_if_exists_or_initialize(blocks_of(network)[0])
    assert list(registry.hooks) == ["sencache_block"]
    run(network, inputs(name, 1), stack.record())
    stack.detach()
    stack.detach()
    for module, known in zip(modules, before, strict=True):
        assert vars(module).keys() == known.keys()
        assert all(vars(module)[key] is value for key, value in known.items())


def test_the_residual_of_the_ltx_script_goes_past_the_output_norm() -> None:
    end = OFFICIAL_SETTINGS["ltx"].residual_end
    network, stack = make("ltx", end)
    before, now = inputs("ltx", 1), inputs("ltx", 2)
    plain = run(build("ltx"), before)
    assert torch.equal(run(network, before, stack.record()), plain)
    residual = stack.residual
    assert residual is not None
    with counted(network) as ran:
        again = run(network, before, stack.replay(residual))
        replayed = run(network, now, stack.replay(residual))
    assert ran == []
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        by_hand = network.proj_out(network.proj_in(now["hidden_states"]) + residual)
    torch.testing.assert_close(replayed, by_hand)


def test_a_hint_after_the_last_block_is_refused() -> None:
    network = tiny_vace((0, 3))
    with pytest.raises(ValueError, match=r"WanVACETransformer3DModel adds a hint .*\[0, 3\]"):
        BlockStack(network, WAN)


def test_a_family_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="the family 'wan' names no blocks"):
        BlockStack(tiny_wan(), replace(WAN, blocks=()))


def test_blocks_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="WanTransformer3DModel has no attribute 'layers'"):
        BlockStack(tiny_wan(), replace(WAN, blocks=("layers",)))


def test_misuse_is_told() -> None:
    network = tiny_wan()
    stack = BlockStack(network, WAN)
    with pytest.raises(RuntimeError, match="is not attached"), stack.record():
        pass
    stack.attach()
    with pytest.raises(RuntimeError, match="already records"), stack.record(), stack.record():
        pass
    arguments = inputs("wan", 1)
    with pytest.raises(RuntimeError, match="record a forward before"):
        run(network, arguments, stack.replay(torch.zeros(ROWS, 8, 24)))
    run(network, arguments, stack.record())
    with pytest.raises(ValueError, match=r"residual is of shape \(2, 8, 24\) but .* \(3, 8, 24\)"):
        run(network, arguments, stack.replay(torch.zeros(2, 8, 24)))
    assert torch.equal(run(network, arguments), run(tiny_wan(), arguments))


def test_a_broken_forward_leaves_no_residual() -> None:
    network, stack = make("wan")
    run(network, inputs("wan", 1), stack.record())
    with pytest.raises(RuntimeError):
        run(network, inputs("wan", 1) | {"encoder_hidden_states": torch.ones(1)}, stack.record())
    assert stack.residual is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan", pytest.param("cogvideox", marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", ["before", "after", "wrapped"])
def test_compiled_blocks_stay_compiled(name: str, way: str) -> None:
    torch._dynamo.reset()
    graphs = 0

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    network = build(name)
    arguments, now = inputs(name, 1), inputs(name, 2)
    plain = run(network, arguments)
    stack = BlockStack(network, family_of(network))
    if way == "after":
        stack.attach()
    for part in family_of(network).blocks:
        blocks = getattr(network, part)
        for index, block in enumerate(blocks):
            if way == "wrapped":
                blocks[index] = torch.compile(block, backend=backend, fullgraph=True)
            else:
                block.compile(backend=backend, fullgraph=True)
    if way == "wrapped":  # other modules stand in the list now
        stack = BlockStack(network, family_of(network))
    seats = [block._compiled_call_impl for block in blocks_of(network)]
    if way != "after":
        stack.attach()
    torch.testing.assert_close(run(network, arguments, stack.record()), plain)
    compiled = graphs
    assert compiled > 0
    residual = stack.residual
    assert residual is not None
    replayed = run(network, arguments, stack.replay(residual))
    torch.testing.assert_close(replayed, plain, atol=1e-5, rtol=1e-5)
    run(network, now, stack.record())
    run(network, now)
    assert graphs == compiled
    stack.detach()
    assert [block._compiled_call_impl for block in blocks_of(network)] == seats
    torch.testing.assert_close(run(network, arguments), plain)
    assert graphs == compiled


def test_the_residual_has_the_dtype_of_the_tokens() -> None:
    network, stack = make("wan")
    network.to(torch.bfloat16)
    arguments = {
        name: value.bfloat16() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in inputs("wan", 1).items()
    }
    run(network, arguments, stack.record())
    assert stack.residual is not None
    assert stack.residual.dtype == torch.bfloat16
    assert run(network, arguments, stack.replay(stack.residual)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", list(OFFICIAL_SETTINGS))
def test_every_row_of_an_official_run_is_its_run_alone(name: str) -> None:
    """Rows that compute and rows that replay in one call, against one network per row by hand."""
    steps, settings = 10, OFFICIAL_SETTINGS[name]
    fixed, t = inputs(name, 0), [1000 - 40 * step for step in range(steps)]
    torch.manual_seed(5)
    sizes = torch.tensor([0.05, 0.12, 0.17]).view(ROWS, *[1] * (fixed["hidden_states"].ndim - 1))
    x = [fixed["hidden_states"]]
    for _ in range(steps - 1):
        x.append(x[-1] + sizes * torch.randn_like(x[0]).sign())  # all of one rms
    calls = [
        fixed | {"hidden_states": latents, "timestep": torch.full((ROWS,), float(time))}
        for latents, time in zip(x, t, strict=True)
    ]
    j_x = settings.scale / x[0][0].numel() ** 0.5
    profile = OfficialProfile((1000, 0), (j_x, j_x), (0.0, 0.0), name)
    knobs: dict[str, Any] = {"epsilon": 0.19, "strict_epsilon": 0.15, "strict_fraction": 0.2}
    wanted = official_decisions(
        [latents.numpy() for latents in x],
        t,
        (profile.timesteps, profile.j_x, profile.j_t),
        settings.scale,
        n=3,
        calls_per_step=settings.calls_per_step,
        final=settings.forced_steps(steps),
        **knobs,
    )
    assert len({outcome.decisions for outcome in wanted}) == ROWS  # so calls are mixed

    network = build(name)
    config = SenCacheConfig(
        policy="official",
        max_reuse=3,
        final_computed=settings.forced_steps(steps),
        guidance=False,
        **knobs,
    )
    handle = apply_sencache(network, config, profile)
    contexts = family_of(network).contexts
    context = "cond" if "cond" in contexts else "cond_uncond"
    outputs = []
    for step, call in enumerate(calls):
        with network.cache_context(context, step_index=step, num_inference_steps=steps):
            outputs.append(run(network, call))
    assert [sample.decisions for sample in handle.stats()] == [each.decisions for each in wanted]

    for row, outcome in enumerate(wanted):
        alone, stack = make(name, settings.residual_end)
        residual = None
        for call, decision, output in zip(calls, outcome.decisions, outputs, strict=True):
            if decision == "C":
                expected = run(alone, pick(call, [row]), stack.record())
                residual = stack.residual
            else:
                assert residual is not None
                expected = run(alone, pick(call, [row]), stack.replay(residual))
            torch.testing.assert_close(output[[row]], expected, atol=1e-5, rtol=1e-4)
