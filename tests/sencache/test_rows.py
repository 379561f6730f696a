"""On a tiny pipeline of every supported family, each row and each branch is decided by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, apply_sencache, remove_sencache
from sencache.families.registry import family_of
from sencache.hook.call import CallReader, row_index
from tests.sencache.support.applied import (
    EVERY_ONE,
    GUIDANCE,
    GUIDED,
    SEEDS,
    apply,
    calls_of_a_step,
    decisions,
    error,
    made,
    networks,
    recorded_call,
)
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    STEPS,
    TinyPipeline,
    fitting_profile,
    tiny_param,
)


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


@pytest.mark.parametrize("tiny", [tiny_param(tiny, by_network=True) for tiny in GUIDED])
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
