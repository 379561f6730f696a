"""Decisions and fits against a few lines of numpy on tensors recorded beside the methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import MagCacheConfig

from jobs.benchmarks.baselines import EasyCache, MagCache, TeaCache
from jobs.benchmarks.baselines.magcache import resampled
from sencache.families.registry import family_of
from tests.jobs.benchmarks.baselines.traces import TINY

STEPS = 12


class Recorded:
    """What a pipeline gives its network and gets from it, call by call, cached or not.

    Of the blocks, too: what enters the first and leaves the last, where they run.
    """

    def __init__(self, pipe: Any, run: Callable[[], object]) -> None:
        self.network = pipe.transformer
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[np.ndarray] = []
        self.entered: list[np.ndarray] = []
        self.left: list[np.ndarray] = []
        blocks = getattr(self.network, family_of(self.network).blocks[0])

        def enter(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            copied = {k: v.clone() if torch.is_tensor(v) else v for k, v in kwargs.items()}
            self.inputs.append(copied)

        def tokens(output: Any) -> np.ndarray:
            return array(output[0] if isinstance(output, tuple) else output)

        handles = [
            self.network.register_forward_pre_hook(enter, with_kwargs=True),
            self.network.register_forward_hook(
                lambda _m, _a, out: self.outputs.append(tokens(out))
            ),
            blocks[0].register_forward_pre_hook(
                lambda _m, args, kwargs: self.entered.append(
                    array(args[0] if args else kwargs["hidden_states"])
                ),
                with_kwargs=True,
            ),
            blocks[-1].register_forward_hook(lambda _m, _a, out: self.left.append(tokens(out))),
        ]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().copy()


def modulated(network: Any, family: str, arguments: dict[str, Any]) -> np.ndarray:
    with torch.no_grad():
        if family == "wan":
            embedder = network.condition_embedder
            time = embedder.time_embedder(embedder.timesteps_proj(arguments["timestep"]))
            return embedder.time_proj(embedder.act_fn(time)).double().numpy()
        tokens = network.proj_in(arguments["hidden_states"])
        temb, _ = network.time_embed(arguments["timestep"].flatten(), hidden_dtype=tokens.dtype)
        block = network.transformer_blocks[0]
        table = (block.scale_shift_table + temb.view(len(tokens), 6, -1)).double().numpy()
        normed = block.norm1(tokens).double().numpy()
        return normed * (1 + table[:, 1:2]) + table[:, 0:1]


def l1(new: np.ndarray, old: np.ndarray) -> float:
    return float(abs(new - old).mean() / abs(old).mean())


@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_teacache(family: str) -> None:
    tiny = TINY[family]
    pipe = tiny.make()
    calls = 2 if family == "wan" else 1

    def run() -> None:
        tiny.run(pipe, [3], STEPS)

    seen = Recorded(pipe, run)
    inputs = [modulated(seen.network, family, each) for each in seen.inputs]
    x = [l1(inputs[i], inputs[i - calls]) for i in range(calls, len(inputs))]
    y = [l1(seen.outputs[i], seen.outputs[i - calls]) for i in range(calls, len(inputs))]
    fitted = TeaCache.fitted(pipe, run)
    coefficients = fitted.coefficients["transformer"]
    wanted = np.polyval(np.polyfit(x, y, 4), x)
    assert np.allclose(np.polyval(coefficients, x), wanted, rtol=1e-2, atol=1e-3)

    threshold = 0.35 * sum(y) / calls
    with fitted.tuned(threshold).applied(pipe) as decisions:
        seen = Recorded(pipe, run)
    inputs = [modulated(seen.network, family, each) for each in seen.inputs[::calls]]
    total, letters = 0.0, "C"
    for step in range(1, STEPS):
        total += max(0.0, np.polyval(coefficients, l1(inputs[step], inputs[step - 1])))
        refresh = total >= threshold or step == STEPS - 1
        letters += "C" if refresh else "R"
        total = 0.0 if refresh else total
    assert decisions() == [letters]
    assert 2 <= letters.count("C") < STEPS


def test_magcache() -> None:
    tiny = TINY["wan"]
    pipe = tiny.make()

    def run() -> None:
        tiny.run(pipe, [3], STEPS)

    seen = Recorded(pipe, run)
    norms = [
        np.linalg.norm(left - entered, axis=-1)
        for left, entered in zip(seen.left, seen.entered, strict=True)
    ]
    fitted = MagCache.fitted(pipe, run)
    for branch, context in enumerate(("cond", "uncond")):
        mine = norms[branch::2]
        wanted = [1.0] + [(mine[i] / mine[i - 1]).mean() for i in range(1, STEPS)]
        assert np.allclose(fitted.ratios[context], wanted, rtol=1e-4)

    baseline = fitted.tuned(0.15)
    with baseline.applied(pipe) as decisions:
        run()
    product, error, skips, letters = 1.0, 0.0, 0, "CC"  # a fifth of 12, rounded down
    for step in range(2, STEPS):
        product *= fitted.ratios["cond"][step]
        error, skips = error + abs(1 - product), skips + 1
        skip = error < 0.15 and skips <= 4
        letters += "R" if skip else "C"
        if not skip:
            product, error, skips = 1.0, 0.0, 0
    assert decisions() == [letters]
    assert 2 < letters.count("C") < STEPS


@pytest.mark.parametrize("threshold", [0.02, 0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("max_skip", [2, 4])
def test_magcache_is_that_of_diffusers(threshold: float, max_skip: int) -> None:
    """With one table for both branches, and steps of which both count the same fifth."""
    tiny = TINY["wan"]
    pipe = tiny.make()
    ratios = MagCache.fitted(pipe, lambda: tiny.run(pipe, [3], 15)).ratios["cond"]
    baseline = MagCache({"cond": ratios, "uncond": ratios}, threshold, max_skip)
    with baseline.applied(pipe) as decisions:
        ours = tiny.run(pipe, [1, 2], 15)
    rows: list[int] = []
    block = pipe.transformer.blocks[1].attn1.to_q
    handle = block.register_forward_hook(lambda _m, args, _out: rows.append(len(args[0])))
    pipe.transformer.enable_cache(
        MagCacheConfig(
            threshold=threshold,
            max_skip_steps=max_skip,
            retention_ratio=0.2,
            num_inference_steps=15,
            mag_ratios=list(ratios),
        )
    )
    theirs = tiny.run(pipe, [1, 2], 15)
    pipe.transformer.disable_cache()
    handle.remove()
    assert 2 * decisions()[0].count("C") == len(rows)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_table_for_another_number_of_steps_takes_the_nearest() -> None:
    table = tuple(float(i) for i in range(9))
    assert resampled(table, 5) == (0.0, 2.0, 4.0, 6.0, 8.0)
    assert resampled(table, 9) is table
    assert len(resampled(table, 30)) == 30


def test_easycache() -> None:
    tiny = TINY["wan"]
    pipe = tiny.make()
    with EasyCache(2.0).applied(pipe) as decisions:
        seen = Recorded(pipe, lambda: tiny.run(pipe, [3], STEPS))
    x = [array(each["hidden_states"]) for each in seen.inputs[::2]]
    v = seen.outputs[::2]
    uncond = seen.outputs[1::2]
    total, gain, last, letters = 0.0, np.nan, 0, "C"
    for step in range(1, STEPS):
        if step < 2 or step == STEPS - 1:  # a fifth of 12, rounded
            computes = True
        else:
            total += gain * abs(x[step] - x[step - 1]).mean() / abs(v[last]).mean()
            computes = total >= 2.0
        letters += "C" if computes else "R"
        if computes:
            gain = abs(v[step] - v[last]).mean() / abs(x[step] - x[last]).mean()
            total, last = 0.0, step
        else:
            assert np.allclose(v[step], x[step] + v[last] - x[last], atol=1e-5)
            assert np.allclose(uncond[step], x[step] + uncond[last] - x[last], atol=1e-5)
    assert decisions() == [letters]
    assert 3 < letters.count("C") < STEPS
