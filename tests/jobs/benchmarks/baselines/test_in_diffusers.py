from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig

from jobs.benchmarks.baselines import (
    DiffusersMagCache,
    FasterCache,
    FirstBlockCache,
    MagCache,
    PyramidAttentionBroadcast,
    SeaCache,
    TaylorSeer,
    UnsupportedError,
    nfe_of,
)
from sencache.families.registry import family_of, register_family, unregister_family
from tests.jobs.benchmarks.baselines.traces import (
    TINY,
    nfe_at,
    run,
    trace,
)
from tests.sencache.support.toys import (
    LINEAR,
    LinearPipe,
    LinearTransformer,
    euler,
)

STEPS = 12
RATIOS = (1.0, *(1.0 - 0.01 * step for step in range(STEPS - 1)))

WHOLE_STEPS = [
    (FirstBlockCache(), "wan"),
    (FirstBlockCache(), "wan-experts"),
    (FirstBlockCache(), "cogvideox"),
    (FirstBlockCache(), "hunyuan"),
    (DiffusersMagCache(RATIOS, STEPS), "wan"),
    (DiffusersMagCache(RATIOS, STEPS), "ltx"),
    (TaylorSeer(steps=STEPS), "wan"),
    (TaylorSeer(), "cogvideox"),
    (TaylorSeer(order=2), "mochi"),
    (SeaCache(), "wan"),
]
KNOBS = {"taylorseer": 4.0, "seacache": 10.0}
ATTENTION = [
    (FasterCache(), "cogvideox"),
    (FasterCache(), "mochi"),
    (FasterCache(), "hunyuan"),
    (PyramidAttentionBroadcast(), "cogvideox"),
    (PyramidAttentionBroadcast(), "ltx"),
    (PyramidAttentionBroadcast(), "hunyuan"),
]


def with_slow(cases: list[tuple[Any, str]]) -> list[Any]:
    """The cases as parameters: all but the first of every method are slow, and variants."""
    seen: set[str] = set()
    params = []
    for baseline, family in cases:
        marks = (pytest.mark.slow, pytest.mark.variant) if baseline.name in seen else ()
        params.append(pytest.param(baseline, family, marks=marks))
        seen.add(baseline.name)
    return params


@lru_cache
def piped(family: str) -> Any:
    return TINY[family].make()


def named(case: Any) -> str:
    return case if isinstance(case, str) else case.name


@pytest.mark.parametrize(("baseline", "family"), with_slow(WHOLE_STEPS + ATTENTION), ids=named)
def test_the_knob_goes_from_the_uncached_run_down(baseline: Any, family: str) -> None:
    pipe, tiny = piped(family), TINY[family]
    plain = tiny.run(pipe, [1, 2], STEPS)
    before = trace(pipe)
    latents, decisions = run(pipe, tiny, baseline.tuned(baseline.low), steps=STEPS)
    assert torch.equal(latents, plain)
    assert decisions() == ["C" * STEPS] * 2
    assert nfe_of(decisions) == pytest.approx([STEPS] * 2)
    middle = 3.0 if baseline.low else 0.1
    counts = [
        nfe_at(baseline, k, pipe, tiny, steps=STEPS) for k in (baseline.low, middle, baseline.high)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < (STEPS if baseline.attention else 0.75 * STEPS)
    assert trace(pipe) == before
    assert torch.equal(tiny.run(pipe, [1, 2], STEPS), plain)


@pytest.mark.parametrize(("baseline", "family"), with_slow(WHOLE_STEPS), ids=named)
def test_a_step_counts_as_computed_where_its_last_block_ran(baseline: Any, family: str) -> None:
    pipe, tiny = piped(family), TINY[family]
    ran: list[int] = []
    handles = []
    networks = [pipe.transformer, getattr(pipe, "transformer_2", None)]
    for network in filter(None, networks):
        blocks = getattr(network, family_of(network).blocks[-1])
        linear = next(m for m in blocks[-1].modules() if isinstance(m, torch.nn.Linear))
        handles.append(linear.register_forward_hook(lambda *_: ran.append(1)))
    _, decisions = run(pipe, tiny, baseline.tuned(KNOBS.get(baseline.name, 0.2)), steps=STEPS)
    for handle in handles:
        handle.remove()
    calls = 2 if family.startswith("wan") else 1
    assert len(decisions()[0]) == STEPS
    if baseline.name == "first-block":  # its branches decide apart
        assert calls * STEPS >= len(ran) >= decisions()[0].count("C")
    else:
        assert len(ran) == calls * decisions()[0].count("C")
        assert nfe_of(decisions) == [decisions()[0].count("C")] * 2
        assert "R" in decisions()[0]


def test_the_probing_first_block_is_counted() -> None:
    pipe, tiny = piped("cogvideox"), TINY["cogvideox"]
    _, decisions = run(pipe, tiny, FirstBlockCache(100.0), steps=STEPS)
    assert decisions() == ["C" + "R" * (STEPS - 1)] * 2
    # One of two blocks that are alike.
    assert nfe_of(decisions) == pytest.approx([1 + (STEPS - 1) * 0.5] * 2)


def test_clips_are_those_of_the_cache_put_on_by_hand() -> None:
    pipe, tiny = TINY["wan"].make(), TINY["wan"]
    got, _ = run(pipe, tiny, FirstBlockCache(0.2), steps=STEPS)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    assert torch.equal(tiny.run(pipe, [1, 2], STEPS), got)


def test_skipped_unconditional_rows_count_as_half_a_step() -> None:
    pipe, tiny = piped("cogvideox"), TINY["cogvideox"]
    with FasterCache(50.0, attention_interval=1).applied(pipe) as decisions:
        tiny.run(pipe, [1, 2], STEPS)
    timesteps = pipe.scheduler.timesteps.tolist()
    skipped = sum(t < 641 for t in timesteps)
    assert nfe_of(decisions) == pytest.approx([STEPS - skipped / 2] * 2)
    assert decisions() == ["C" * STEPS] * 2


def test_an_error_leaves_no_trace() -> None:
    pipe = TINY["cogvideox"].make()
    TINY["cogvideox"].run(pipe, [1])
    before = trace(pipe)
    for baseline in (FirstBlockCache(), FasterCache(), TaylorSeer()):
        with pytest.raises(RuntimeError, match="on purpose"), baseline.applied(pipe):
            raise RuntimeError("on purpose")
        assert trace(pipe) == before


@pytest.mark.parametrize(
    ("baseline", "family", "why"),
    [
        (SeaCache(), "cogvideox", "Wan text to video"),
        (SeaCache(), "wan-i2v", "Wan text to video"),
        (FasterCache(), "ltx", "packed latents"),
        (FasterCache(), "wan", "two calls"),
        (PyramidAttentionBroadcast(), "wan", "two calls"),
        (FirstBlockCache(), "wan-vace", "adds hints"),
        (DiffusersMagCache(RATIOS, STEPS), "wan-vace", "adds hints"),
    ],
    ids=named,
)
def test_what_cannot_run_says_why(baseline: Any, family: str, why: str) -> None:
    pipe = TINY[family].make()
    before = trace(pipe)
    with pytest.raises(UnsupportedError, match=why):
        run(pipe, TINY[family], baseline, steps=STEPS)
    assert trace(pipe) == before


@pytest.mark.parametrize("baseline", [FirstBlockCache(), PyramidAttentionBroadcast()], ids=named)
def test_a_network_without_known_blocks_is_refused(baseline: Any) -> None:
    pipe = LinearPipe(LinearTransformer(0.1, 0.2), euler())
    with pytest.raises(UnsupportedError, match="LinearTransformer"), baseline.applied(pipe):
        pass
    register_family(LINEAR)
    try:
        with pytest.raises(UnsupportedError, match="names no blocks"), baseline.applied(pipe):
            pass
    finally:
        unregister_family(LINEAR)


def test_without_guidance_there_are_no_rows_to_leave_out() -> None:
    pipe, tiny = piped("cogvideox"), TINY["cogvideox"]
    with pytest.raises(UnsupportedError, match="half of the rows"):
        run(pipe, tiny, FasterCache(), steps=STEPS, guidance=False)
    _, decisions = run(pipe, tiny, PyramidAttentionBroadcast(4.0), steps=STEPS, guidance=False)
    assert decisions() == ["C" * STEPS] * 2
    assert nfe_of(decisions)[0] < STEPS


def test_ratios_of_ours_are_taken_by_theirs() -> None:
    pipe, tiny = piped("wan"), TINY["wan"]
    ratios = MagCache.fitted(pipe, lambda: tiny.run(pipe, [3], STEPS)).ratios["cond"]
    _, decisions = run(pipe, tiny, DiffusersMagCache(ratios, STEPS, 1.0), steps=STEPS)
    assert 2 < decisions()[0].count("C") < STEPS
