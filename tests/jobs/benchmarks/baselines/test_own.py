from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jobs.benchmarks.baselines import (
    AnySenCache,
    Gated,
    SenCachePaper,
    UnsupportedError,
    nfe_of,
)
from sencache import SenCacheConfig, apply_sencache, remove_sencache
from tests.jobs.benchmarks.baselines.traces import (
    TINY,
    nfe_at,
    run,
    trace,
)
from tests.sencache.policies.test_planned_pipelines import with_drift
from tests.sencache.support.tiny_pipelines import fitting_profile

STEPS = 18


@pytest.fixture(params=["wan", "cogvideox"])
def made(request: Any) -> tuple[Any, Any, Any]:
    tiny = TINY[request.param]
    pipe = tiny.make()
    return pipe, tiny, fitting_profile(pipe)


def test_the_rule_decides_as_the_cache_applied_by_hand(made: Any) -> None:
    pipe, tiny, profile = made
    handle = apply_sencache(pipe, SenCacheConfig(epsilon=0.5, max_reuse=2), profile)
    wanted = tiny.run(pipe, [1, 2])
    stats = handle.stats()
    remove_sencache(pipe)
    before = trace(pipe)
    got, decisions = run(pipe, tiny, SenCachePaper(profile, SenCacheConfig(max_reuse=2)).tuned(0.5))
    assert torch.equal(got, wanted)
    assert decisions() == [sample.decisions for sample in stats]
    assert nfe_of(decisions) == [sample.nfe for sample in stats]
    assert trace(pipe) == before


def test_the_knob_goes_from_everything_to_the_cap(made: Any) -> None:
    pipe, tiny, profile = made
    baseline = SenCachePaper(profile)
    assert torch.equal(run(pipe, tiny, baseline.tuned(baseline.low))[0], tiny.run(pipe, [1, 2]))
    counts = [nfe_at(baseline, knob, pipe, tiny) for knob in (baseline.low, 0.3, baseline.high)]
    assert counts[0] == 8
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 5


def test_any_policy_and_no_trace_after_an_error() -> None:
    tiny = TINY["wan"]
    pipe = tiny.make()
    before = trace(pipe)
    baseline = AnySenCache(SenCacheConfig(policy="none"))
    with pytest.raises(RuntimeError, match="on purpose"), baseline.applied(pipe):
        raise RuntimeError("on purpose")
    assert trace(pipe) == before
    assert run(pipe, tiny, baseline)[1]() == ["C" * 8] * 2


def test_another_models_profile_is_refused() -> None:
    pipe = TINY["cogvideox"].make()
    baseline = SenCachePaper(fitting_profile(TINY["wan"].make()))
    with pytest.raises(UnsupportedError, match="family"), baseline.applied(pipe):
        pass


def test_a_gate_is_fitted_to_the_budget_on_calibration_clips() -> None:
    tiny = TINY["wan"]
    pipe = tiny.make()
    profile, before = with_drift(fitting_profile(pipe)), trace(pipe)
    batches = [[1, 2, 3], [4, 5, 6]]

    def calibrate(after: Callable[[], None]) -> None:
        for seeds in batches:
            tiny.run(pipe, seeds, STEPS)
            after()

    config = SenCacheConfig(policy="planned", budget=0.34, gate=2)
    baseline = Gated(profile, pipe, calibrate, config).budgeted(10, STEPS)
    assert trace(pipe) == before
    nfe = []
    for seeds in batches:
        with baseline.applied(pipe) as decisions:
            tiny.run(pipe, seeds, STEPS)
            nfe += nfe_of(decisions)
    assert sorted(set(nfe)) == [9, 12]
    assert sum(nfe) == 10 * len(nfe)
    with pytest.raises(UnsupportedError, match="with this gate it can be"):
        Gated(profile, pipe, calibrate, config).budgeted(5, STEPS)
