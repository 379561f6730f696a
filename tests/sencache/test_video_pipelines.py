"""The cache on every video pipeline of diffusers: what has to hold for it, or why it is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache, remove_sencache
from sencache.families.refusals import REFUSED_PIPELINES
from sencache.families.registry import family_of
from sencache.pipelines import networks_of
from tests.sencache.support.tiny_pipelines import fitting_profile
from tests.sencache.support.video.base import STEPS, VideoPipeline
from tests.sencache.support.video.table import (
    BROKEN,
    SUPPORTED,
    class_of,
    has_transformer,
    video_classes,
)

BUDGET = 0.5
PLANNED = SenCacheConfig(policy="planned", budget=BUDGET)
QUICK = {
    "WanPipeline",
    "WanVideoToVideoPipeline",
    "SanaVideoPipeline",
    "CosmosTextToWorldPipeline",
    "Cosmos2VideoToWorldPipeline",
    "MotifVideoPipeline",
}
SEEDS = [0, 1, 2, 3]

EVERY_ONE = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,))
        for name in sorted(SUPPORTED)
    ],
)


@functools.cache
def made(name: str) -> Any:
    return SUPPORTED[name].make()


@functools.cache
def uncached(name: str, rows: int, guidance: bool) -> torch.Tensor:
    return SUPPORTED[name].run(made(name), SEEDS[:rows], guidance=guidance)


@pytest.fixture
def pipe(name: str) -> Iterator[Any]:
    """The pipeline, made once for all tests and given back by each without a cache."""
    yield made(name)
    remove_sencache(made(name))


@pytest.fixture
def video(name: str) -> VideoPipeline:
    return SUPPORTED[name]


@contextmanager
def evaluated(pipe: Any) -> Iterator[list[int]]:
    """Rows of every call that a network really computes."""
    rows: list[int] = []
    for network in networks_of(pipe).values():
        network.forward = noting(type(network).forward.__get__(network), rows)
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


def decisions(handle: SenCacheHandle) -> list[str]:
    return [each.decisions for each in handle.stats()]


def apart(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the rms of what was wanted."""
    assert wanted.isfinite().all()
    return ((got - wanted).abs().max() / wanted.float().square().mean().sqrt()).item()


def test_every_video_class_of_diffusers_has_its_place() -> None:
    supported = {class_of(name) for name in SUPPORTED}
    without = {name for name, cls in video_classes().items() if not has_transformer(cls)}
    places = [supported, REFUSED_PIPELINES.keys(), BROKEN.keys(), without]
    assert set(video_classes()) == set().union(*places)
    assert sum(map(len, places)) == len(video_classes())  # none has two
    assert len(supported) >= 40


@pytest.mark.parametrize(
    "name",
    sorted(
        set(REFUSED_PIPELINES) | {n for n, c in video_classes().items() if not has_transformer(c)}
    ),
)
def test_what_is_not_supported_is_refused_in_one_line(name: str) -> None:
    bare = object.__new__(video_classes()[name])
    with pytest.raises(ValueError, match=REFUSED_PIPELINES.get(name, "has no transformer")) as told:
        apply_sencache(bare, "balanced")
    assert name in str(told.value)
    assert "\n" not in str(told.value)


@EVERY_ONE
def test_without_reuse_nothing_changes(name: str, video: VideoPipeline, pipe: Any) -> None:
    rows = min(video.most_rows, 2)
    for config in (SenCacheConfig(policy="none"), SenCacheConfig(epsilon=0.0)):
        profile = fitting_profile(pipe) if config.may_reuse else None
        handle = apply_sencache(pipe, config, profile)
        for guidance in (True, False):
            wanted = uncached(name, rows, guidance)
            assert wanted.isfinite().all()
            assert torch.equal(video.run(pipe, SEEDS[:rows], guidance=guidance), wanted)
            assert decisions(handle) == ["C" * video.evaluated] * rows
        remove_sencache(pipe)
    assert not torch.equal(uncached(name, rows, True), uncached(name, rows, False))


@EVERY_ONE
def test_the_network_runs_as_often_as_was_planned(
    name: str, video: VideoPipeline, pipe: Any
) -> None:
    rows = min(video.most_rows, 2)
    if not video.planned:
        apply_sencache(pipe, PLANNED)
        with pytest.raises(ValueError, match="takes more than outputs"):
            video.run(pipe, SEEDS[:rows])
        return
    per_chunk = STEPS - video.late
    nfe = max(round(BUDGET * per_chunk), 2) * video.chunks
    for guidance in (True, False):
        with evaluated(pipe) as everything:
            video.run(pipe, SEEDS[:rows], guidance=guidance)
        per_step = sum(everything) // video.evaluated // rows
        with evaluated(pipe) as computed:
            handle = apply_sencache(pipe, PLANNED)
            got = video.run(pipe, SEEDS[:rows], guidance=guidance)
            remove_sencache(pipe)
        (decided,) = set(decisions(handle))
        assert (len(decided), decided.count("C")) == (video.evaluated, nfe)
        assert sum(computed) == per_step * nfe * rows
        assert {each.evaluations for each in handle.stats()} == {per_step * nfe}
        assert 1e-6 < apart(got, uncached(name, rows, guidance)) < 100


@functools.cache
def dividing_epsilon(name: str) -> float:
    """An epsilon between the scores of the second step, so that some rows reuse it."""
    video, pipe = SUPPORTED[name], made(name)
    config = SenCacheConfig(epsilon=1e-12, strict_fraction=0.0)
    handle = apply_sencache(pipe, config, fitting_profile(pipe))
    video.run(pipe, SEEDS[: video.most_rows])
    remove_sencache(pipe)
    scores = sorted(stats.refreshes[0].predicted or 0.0 for stats in handle.stats())
    _, low, high = max((high / low, low, high) for low, high in pairwise(scores))
    return (low + high) / 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,))
        for name in sorted(SUPPORTED)
        if SUPPORTED[name].most_rows > 1
    ],
)
def test_every_row_of_a_batch_is_the_run_of_one(name: str, video: VideoPipeline, pipe: Any) -> None:
    threshold = SenCacheConfig(epsilon=dividing_epsilon(name), strict_fraction=0.0, max_reuse=3)
    for config in (threshold, PLANNED) if video.planned else (threshold,):
        handle = apply_sencache(
            pipe, config, fitting_profile(pipe) if config is threshold else None
        )
        together, decided = video.run(pipe, SEEDS), decisions(handle)
        assert len(set(decided)) == 1 or config is threshold
        for row, seed in enumerate(SEEDS):
            alone = video.run(pipe, [seed])
            assert decisions(handle) == [decided[row]]
            assert apart(together[row : row + 1], alone) <= 1e-3
        if config is threshold:
            assert len(set(decided)) >= 2
            assert any("R" in each for each in decided)
        remove_sencache(pipe)


def test_what_diffusers_cannot_call_is_still_so() -> None:
    """When this fails, the class can be supported."""
    import inspect

    for name, function in BROKEN.items():
        cls = video_classes()[name]
        accepted = inspect.signature(getattr(cls, function)).parameters
        assert "text_encoder_index=" in inspect.getsource(cls.__call__)
        assert "text_encoder_index" not in accepted


@EVERY_ONE
def test_every_transformer_has_a_family(pipe: Any) -> None:
    for network in networks_of(pipe).values():
        assert family_of(network).name
