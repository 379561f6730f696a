"""The cache on a tiny pipeline of every supported family: what has to hold for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache, remove_sencache
from sencache.families.registry import family_of
from sencache.hook.call import CallReader, row_index
from tests.sencache.support.tiny_models import DIM, TOKENS
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    STEPS,
    TinyPipeline,
    fitting_profile,
    tiny_param,
)

SEEDS = [0, 1, 2, 3]
GUIDED = [tiny for tiny in PIPELINES if tiny.guidance != "none"]
GUIDANCE = pytest.mark.parametrize(
    ("tiny", "guidance"),
    [tiny_param(tiny, True, name=f"{tiny.name}-guided") for tiny in PIPELINES]
    + [
        tiny_param(tiny, False, name=f"{tiny.name}-unguided", quick=tiny.name == "wan")
        for tiny in GUIDED
    ],
)
EVERY_ONE = pytest.mark.parametrize("tiny", [tiny_param(tiny) for tiny in PIPELINES])


@functools.cache
def made(tiny_name: str) -> Any:
    return next(tiny for tiny in PIPELINES if tiny.name == tiny_name).make()


@pytest.fixture(params=[tiny_param(tiny) for tiny in PIPELINES])
def tiny(request: pytest.FixtureRequest) -> TinyPipeline:
    return request.param


@pytest.fixture
def pipe(tiny: TinyPipeline) -> Iterator[Any]:
    """The pipeline, made once for all tests and given back by each without a cache."""
    pipe = made(tiny.name)
    yield pipe
    remove_sencache(pipe)


def networks(tiny: TinyPipeline, pipe: Any) -> list[Any]:
    return [getattr(pipe, name) for name in tiny.networks]


def apply(pipe: Any, epsilon: float = 1e9, **options: Any) -> SenCacheHandle:
    """Put a cache on a pipeline or a network, a new one if there is one already."""
    remove_sencache(pipe)
    network = pipe if isinstance(pipe, torch.nn.Module) else pipe.transformer
    config = SenCacheConfig(
        **{"epsilon": epsilon, "strict_fraction": 0.0, "max_reuse": 2} | options
    )
    profile = fitting_profile(pipe, network) if config.may_reuse else None
    return apply_sencache(pipe, config, profile)


def decisions(handle: SenCacheHandle) -> list[str]:
    return [stats.decisions for stats in handle.stats()]


@contextmanager
def counted(tiny: TinyPipeline, pipe: Any) -> Iterator[list[int]]:
    """Rows of every call that the first block of a network really computes."""
    rows: list[int] = []

    def count(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))

    with ExitStack() as stack:
        for network in networks(tiny, pipe):
            block = getattr(network, family_of(network).blocks[0])[0]
            hook = block.norm1.register_forward_pre_hook(count, with_kwargs=True)
            stack.callback(hook.remove)
        yield rows


def calls_of_a_step(tiny: TinyPipeline, samples: int, guidance: bool) -> list[int]:
    """Rows of each network call of a step in which `samples` compute."""
    if not guidance or tiny.guidance == "none":
        return [samples]
    return [samples, samples] if tiny.guidance == "two calls" else [2 * samples]


def recorded_call(tiny: TinyPipeline, pipe: Any, guidance: bool = True) -> dict[str, Any]:
    """Arguments of the first network's first call in a run of three rows."""
    calls: list[dict[str, Any]] = []
    hook = networks(tiny, pipe)[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(dict(kwargs)), with_kwargs=True
    )
    tiny.run(pipe, [0, 1, 2], steps=2, guidance=guidance)
    hook.remove()
    return calls[0]


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the rms of what was wanted."""
    return ((got - wanted).abs().max() / wanted.float().square().mean().sqrt()).item()


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
@pytest.mark.parametrize("tiny", GUIDED, ids=[tiny.name for tiny in GUIDED])
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


@functools.cache
def dividing_epsilon(name: str, guidance: bool) -> float:
    """An epsilon between the scores of a step, so that some rows reuse it and others do not."""
    tiny, pipe = next(tiny for tiny in PIPELINES if tiny.name == name), made(name)
    handle = apply(pipe, 1e-9)
    tiny.run(pipe, SEEDS, guidance=guidance)
    steps = zip(*(stats.refreshes for stats in handle.stats()), strict=True)
    kinds = {}
    for scores in [sorted(row.predicted or 0.0 for row in rows) for rows in steps][:3:2]:
        _, low = max((high / low, low) for low, high in pairwise(scores))
        epsilon = (low + scores[scores.index(low) + 1]) / 2
        handle = apply(pipe, epsilon, max_reuse=3)
        tiny.run(pipe, SEEDS, guidance=guidance)
        kinds[epsilon] = len(set(decisions(handle)))
    return max(kinds, key=lambda epsilon: kinds[epsilon])


@pytest.mark.slow
@GUIDANCE
def test_every_row_of_a_batch_is_the_run_of_one(
    tiny: TinyPipeline, pipe: Any, guidance: bool
) -> None:
    check_rows(tiny, pipe, "output", guidance)


def test_every_row_is_the_run_of_one_where_residuals_are_reused(
    tiny: TinyPipeline, pipe: Any
) -> None:
    check_rows(tiny, pipe, "residual", guidance=True)


def check_rows(tiny: TinyPipeline, pipe: Any, reuse: str, guidance: bool) -> None:
    epsilon = dividing_epsilon(tiny.name, guidance)
    handle = apply(pipe, epsilon, max_reuse=3, reuse=reuse)
    alone, decided = {}, {}
    for seed in SEEDS:
        alone[seed] = tiny.run(pipe, [seed], guidance=guidance)[0]
        (decided[seed],) = decisions(handle)
    assert len(set(decided.values())) >= 2
    unlike = next(seed for seed in SEEDS if decided[seed] != decided[3])
    for seeds in ([3, unlike], SEEDS, [3, 0, 1, 2, 2, 1, 0, 3]):
        batch = tiny.run(pipe, seeds, guidance=guidance)
        assert decisions(handle) == [decided[seed] for seed in seeds]
        for row, seed in enumerate(seeds):
            assert error(batch[row], alone[seed]) <= 1e-5


@contextmanager
def reference(
    tiny: TinyPipeline, pipe: Any, decided: Mapping[str, Sequence[str]], guidance: bool
) -> Iterator[None]:
    """Another way to the same clip: compute everything, then take the outputs that were decided.

    Tells branches by the order of calls and rows alone, and keeps the output of each by itself.

    Args:
        tiny, pipe: The pipeline.
        decided: The decisions of each branch, a string per sample.
        guidance: Whether it is on.
    """
    per_step = calls_of_a_step(tiny, len(decided["cond"]), guidance)
    calls = 0

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        held: dict[int, torch.Tensor] = {}

        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            step, call = divmod(calls, len(per_step))
            calls += 1
            output = original(*args, **kwargs)[0]
            if len(output) == len(decided["cond"]):
                rows = decided["uncond" if call else "cond"]
            else:
                rows = [*decided["uncond"], *decided["cond"]]
            for row, steps in enumerate(rows):
                if steps[step] == "R":
                    output[row] = held[call][row]
            held[call] = output.clone()
            return (output,)

        return forward

    remove_sencache(pipe)
    for network in networks(tiny, pipe):
        network.forward = replacement(network.forward)
    yield
    for network in networks(tiny, pipe):
        del network.forward


@GUIDANCE
def test_every_branch_reuses_its_own_output(tiny: TinyPipeline, pipe: Any, guidance: bool) -> None:
    plain = tiny.run(pipe, SEEDS, guidance=guidance)
    epsilon = dividing_epsilon(tiny.name, guidance)
    handle = apply(pipe, epsilon, max_reuse=3)
    cached, decided = tiny.run(pipe, SEEDS, guidance=guidance), decisions(handle)
    with reference(tiny, pipe, {"cond": decided, "uncond": decided}, guidance):
        wanted = tiny.run(pipe, SEEDS, guidance=guidance)
    assert error(cached, wanted) <= 1e-5
    assert error(cached, plain) > 1e-3


@pytest.mark.parametrize("tiny", [tiny_param(tiny) for tiny in GUIDED])
@pytest.mark.parametrize("easy", ["cond", "uncond"])
def test_every_branch_is_judged_by_its_own_curve(tiny: TinyPipeline, pipe: Any, easy: Any) -> None:
    """One branch of the profile allows reuse and the other never does."""
    profile = fitting_profile(pipe)
    hard = tuple(replace(point, a_x=1e9, a_t=1e9) for point in profile.branches["cond"])
    profile = replace(
        profile,
        branches={
            branch: points if branch == easy else hard
            for branch, points in profile.branches.items()
        },
    )
    pattern = "CRCCRCRC" if len(tiny.networks) > 1 else "CRCRCRCC"
    patterns = {"cond": "C" * STEPS, "uncond": "C" * STEPS}
    for verdict in ("follow", "own"):
        decided = patterns | ({easy: pattern} if verdict == "own" else {})
        if verdict == "follow" and easy == "cond":
            decided = {"cond": pattern, "uncond": pattern}
        config = SenCacheConfig(
            epsilon=1e3, max_reuse=1, strict_fraction=0.0, uncond_verdict=verdict
        )
        handle = apply_sencache(pipe, config, profile)
        got = tiny.run(pipe, [0, 1])
        assert decisions(handle) == [decided["cond"]] * 2
        evaluations = "".join(decided.values()).count("C")
        assert [each.evaluations for each in handle.stats()] == [evaluations] * 2
        with reference(tiny, pipe, {name: [each] * 2 for name, each in decided.items()}, True):
            assert error(got, tiny.run(pipe, [0, 1])) <= 1e-5


@EVERY_ONE
def test_selected_rows_are_those_of_the_whole_batch(tiny: TinyPipeline, pipe: Any) -> None:
    """With every row's own time, image and guidance, which the pipelines do not always allow."""
    network = networks(tiny, pipe)[0]
    family = family_of(network)
    call = recorded_call(tiny, pipe)
    rows = len(call[family.latents])
    random = torch.Generator().manual_seed(0)
    for name in family.per_row:
        value = call.get(name)
        if not isinstance(value, torch.Tensor) or len(value) % rows or "mask" in name:
            continue
        items = (len(value), *[1] * (value.ndim - 1))
        call[name] = value * (0.5 + 0.5 * torch.rand(items, generator=random))
    read = CallReader(family, network, network.forward)
    index = [rows - 1, 0]
    with torch.no_grad():
        whole = network(**call)[0]
        chosen = read((), call).select(row_index(index, whole.device))
        assert error(network(**chosen)[0], whole[index]) <= 1e-5
    given = {name for name, value in call.items() if isinstance(value, torch.Tensor)}
    assert given - set(family.per_row) <= {"control_hidden_states_scale"}


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
