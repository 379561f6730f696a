"""What TeaCache, MagCache and EasyCache have in common, on every family that they support."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from jobs.benchmarks.baselines import (
    EasyCache,
    MagCache,
    TeaCache,
    UnsupportedError,
    nfe_of,
)
from jobs.benchmarks.baselines.easycache import ShiftReuse
from jobs.benchmarks.baselines.gating import CallView, Rule, gated, residual_reuse
from tests.jobs.benchmarks.baselines.traces import (
    TINY,
    nfe_at,
    run,
    trace,
)
from tests.sencache.support.tiny_pipelines import TinyPipeline
from tests.sencache.support.toys import LinearPipe, LinearTransformer, euler

METHODS = ("teacache", "magcache", "easycache")
QUICK = ("wan", "cogvideox")  # one of either way of guidance
FAMILIES = ("wan", "wan-experts", "cogvideox", "ltx", "hunyuan", "mochi")


def calibrate(pipe: Any, tiny: TinyPipeline) -> None:
    for seed in (5, 6):
        tiny.run(pipe, [seed, seed + 10])


@lru_cache
def made(method: str, family: str) -> tuple[Any, Any, Any]:
    """A method fitted to a pipeline; shared by the tests, for they leave both as they were."""
    tiny = TINY[family]
    pipe = tiny.make()
    if method == "easycache":
        return EasyCache(), pipe, tiny
    kind: Any = TeaCache if method == "teacache" else MagCache
    return kind.fitted(pipe, lambda: calibrate(pipe, tiny)), pipe, tiny


@pytest.mark.parametrize(
    "family",
    [
        name if name in QUICK else pytest.param(name, marks=(pytest.mark.slow, pytest.mark.variant))
        for name in FAMILIES
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_the_knob_goes_from_the_uncached_run_down(method: str, family: str) -> None:
    baseline, pipe, tiny = made(method, family)
    plain = tiny.run(pipe, [1, 2])
    before = trace(pipe)
    latents, decisions = run(pipe, tiny, baseline.tuned(baseline.low))
    assert torch.equal(latents, plain)
    assert decisions() == ["C" * 8] * 2
    counts = [nfe_at(baseline, knob, pipe, tiny) for knob in (0.0, 0.02, 0.1, 0.5, baseline.high)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 8
    assert counts[-1] <= (5 if family == "wan-experts" else 4)  # each network starts afresh
    assert trace(pipe) == before
    assert torch.equal(tiny.run(pipe, [1, 2]), plain)


@pytest.mark.parametrize("family", ["wan", "cogvideox"])
@pytest.mark.parametrize("method", METHODS)
def test_rows_that_went_through_the_network_are_counted(method: str, family: str) -> None:
    baseline, pipe, tiny = made(method, family)
    blocks = pipe.transformer.blocks if family == "wan" else pipe.transformer.transformer_blocks
    ran: list[int] = []
    query = blocks[1].attn1.to_q
    inner = query.register_forward_hook(lambda _module, args, _output: ran.append(len(args[0])))
    _, decisions = run(pipe, tiny, baseline.tuned(baseline.high))
    inner.remove()
    # The probe for TeaCache's signal ends at the first block, so this counts true evaluations.
    assert sum(nfe_of(decisions)) * 2 == sum(ran)


@pytest.mark.parametrize("method", METHODS)
def test_samples_are_decided_and_made_as_on_their_own(method: str) -> None:
    baseline, pipe, tiny = made(method, "ltx")
    knob = {"teacache": 0.3, "magcache": 0.1, "easycache": 0.3}[method]
    together, decisions = run(pipe, tiny, baseline.tuned(knob))
    for row, seed in enumerate([1, 2]):
        with baseline.tuned(knob).applied(pipe) as alone:
            latents = tiny.run(pipe, [seed])
        assert alone() == [decisions()[row]]
        assert torch.allclose(latents[0], together[row], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_error_leaves_no_trace_and_the_next_run_is_whole(method: str) -> None:
    baseline, pipe, tiny = made(method, "wan")
    wanted = run(pipe, tiny, baseline)
    before = trace(pipe)
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("on purpose")

    handle = pipe.transformer.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"), baseline.applied(pipe):
        tiny.run(pipe, [1, 2])
    handle.remove()
    assert trace(pipe) == before
    with baseline.applied(pipe) as decisions:
        for _ in range(2):  # nothing of the first run is left in the second
            assert torch.equal(tiny.run(pipe, [1, 2]), wanted[0])
            assert decisions() == wanted[1]()


def test_what_cannot_run_says_why() -> None:
    strange = LinearPipe(LinearTransformer(0.1, 0.2), euler())
    for baseline in (TeaCache({}), MagCache({}), EasyCache()):
        with pytest.raises(UnsupportedError, match="LinearTransformer"), baseline.applied(strange):
            pass
    replaced = TINY["hunyuan-i2v-replace"].make()
    with pytest.raises(UnsupportedError, match="HunyuanVideoTokenReplaceTransformerBlock"):
        TeaCache.fitted(replaced, lambda: None)
    for kind, why in ((TeaCache, "every network"), (MagCache, "whole runs")):
        with pytest.raises(UnsupportedError, match=why):
            kind.fitted(TINY["wan"].make(), lambda: None)
    pipe = TINY["wan"].make()
    with (
        pytest.raises(UnsupportedError, match="not fitted for transformer"),
        TeaCache({}).applied(pipe),
    ):
        pass
    with pytest.raises(UnsupportedError, match="no ratios for the context 'cond'"):
        run(pipe, TINY["wan"], MagCache({}))


def test_a_rule_that_only_some_samples_follow_mixes_rows() -> None:
    """Gathering within one step: the first sample computes all, the second every other step."""

    class Every(Rule):
        def decide(self, view: CallView) -> list[bool]:
            return [True, view.step % 2 == 0]

    tiny = TINY["wan"]
    pipe = tiny.make()
    plain = tiny.run(pipe, [1, 2])
    for reuse in (residual_reuse, lambda _network, _family: ShiftReuse()):
        with gated(pipe, Every, reuse) as outcome:
            latents = tiny.run(pipe, [1, 2])
        assert outcome() == ["C" * 8, "CR" * 4]
        assert nfe_of(outcome) == [8, 4]
        assert torch.allclose(latents[0], plain[0], atol=1e-4)
        assert not torch.allclose(latents[1], plain[1], atol=1e-2)
