"""What has to hold for every supported video pipeline, as checks that tests and the table share."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache, remove_sencache
from sencache.pipelines import networks_of
from tests.sencache.support.tiny_pipelines import fitting_profile
from tests.sencache.support.video.base import STEPS
from tests.sencache.support.video.table import SUPPORTED

BUDGET = 0.5
PLANNED = SenCacheConfig(policy="planned", budget=BUDGET)
SEEDS = [0, 1, 2, 3]
SAME = 1e-3
"""Kernels round differently for other batches, which the liveliest of the tiny networks amplify."""


@functools.cache
def made(name: str) -> Any:
    """The pipeline of a variant, made once."""
    return SUPPORTED[name].make()


@functools.cache
def uncached(name: str, rows: int, guidance: bool) -> torch.Tensor:
    """Latents of the first seeds without a cache."""
    return SUPPORTED[name].run(made(name), SEEDS[:rows], guidance=guidance)


def check_that_nothing_changes_without_reuse(name: str) -> None:
    """`policy="none"` and `epsilon=0` give the very bits of a run without a cache."""
    video, pipe = SUPPORTED[name], made(name)
    rows = min(video.most_rows, 2)
    for config in (SenCacheConfig(policy="none"), SenCacheConfig(epsilon=0.0)):
        with cached(pipe, config) as handle:
            for guidance in (True, False):
                wanted = uncached(name, rows, guidance)
                assert wanted.isfinite().all()
                assert torch.equal(video.run(pipe, SEEDS[:rows], guidance=guidance), wanted)
                assert decisions(handle) == ["C" * video.evaluated] * rows
    assert not torch.equal(uncached(name, rows, True), uncached(name, rows, False))


def check_that_plans_are_kept(name: str) -> None:
    """The network runs exactly as often as was planned; or the sampler is refused in words."""
    video, pipe = SUPPORTED[name], made(name)
    rows = min(video.most_rows, 2)
    if not video.planned:
        with cached(pipe, PLANNED), pytest.raises(ValueError, match="takes more than outputs"):
            video.run(pipe, SEEDS[:rows])
        return
    nfe = max(round(BUDGET * (STEPS - video.late)), 2) * video.chunks
    for guidance in (True, False):
        with evaluated(pipe) as everything:
            video.run(pipe, SEEDS[:rows], guidance=guidance)
        per_step = sum(everything) // video.evaluated // rows
        with evaluated(pipe) as computed, cached(pipe, PLANNED) as handle:
            got = video.run(pipe, SEEDS[:rows], guidance=guidance)
        (decided,) = set(decisions(handle))
        assert (len(decided), decided.count("C")) == (video.evaluated, nfe)
        assert sum(computed) == per_step * nfe * rows
        assert {each.evaluations for each in handle.stats()} == {per_step * nfe}
        assert 1e-6 < apart(got, uncached(name, rows, guidance)) < 100


def check_that_rows_are_their_runs_alone(name: str) -> None:
    """Each row of a batch decides and becomes what it does alone, by threshold and by plan."""
    video, pipe = SUPPORTED[name], made(name)
    threshold = SenCacheConfig(epsilon=dividing_epsilon(name), strict_fraction=0.0, max_reuse=3)
    for config in (threshold, PLANNED) if video.planned else (threshold,):
        with cached(pipe, config) as handle:
            together, decided = video.run(pipe, SEEDS), decisions(handle)
            for row, seed in enumerate(SEEDS):
                alone = video.run(pipe, [seed])
                assert decisions(handle) == [decided[row]]
                assert apart(together[row : row + 1], alone) <= SAME
        assert any("R" in each for each in decided)
        assert (len(set(decided)) >= 2) is (config is threshold)


@contextmanager
def cached(pipe: Any, config: SenCacheConfig) -> Iterator[SenCacheHandle]:
    """The pipeline with a cache; plans go by the prior, thresholds by a constant profile."""
    needs = config.may_reuse and config.policy != "planned"
    handle = apply_sencache(pipe, config, fitting_profile(pipe) if needs else None)
    try:
        yield handle
    finally:
        remove_sencache(pipe)


@contextmanager
def evaluated(pipe: Any) -> Iterator[list[int]]:
    """Rows of every call that a network really computes; enter it before a cache is applied."""
    rows: list[int] = []
    for network in networks_of(pipe).values():
        noted: Any = network
        noted.forward = noting(type(network).forward.__get__(network), rows)
    yield rows
    for network in networks_of(pipe).values():
        del network.forward


def noting(forward: Any, rows: list[int]) -> Any:
    """A forward that notes the rows of its calls."""

    @functools.wraps(forward)
    def noted(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    return noted


@functools.cache
def dividing_epsilon(name: str) -> float:
    """An epsilon between the scores of the second step, so that some rows reuse it."""
    video, pipe = SUPPORTED[name], made(name)
    with cached(pipe, SenCacheConfig(epsilon=1e-12, strict_fraction=0.0)) as handle:
        video.run(pipe, SEEDS[: video.most_rows])
    scores = sorted(stats.refreshes[0].predicted or 0.0 for stats in handle.stats())
    _, low, high = max((high / low, low, high) for low, high in pairwise(scores))
    return (low + high) / 2


def decisions(handle: SenCacheHandle) -> list[str]:
    """What happened at each step, per sample."""
    return [each.decisions for each in handle.stats()]


def apart(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the rms of what was wanted."""
    assert wanted.isfinite().all()
    return ((got - wanted).abs().max() / wanted.float().square().mean().sqrt()).item()
