"""DPCache, LeMiCa and cache-dit: their searches against brute force, and small runs by hand."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from jobs.benchmarks.baselines import Baseline, CacheDit, DPCache, LeMiCa, nfe_of
from jobs.benchmarks.baselines.cache_dit import CALIBRATORS
from jobs.benchmarks.baselines.dpcache import cheapest_path, cost_tensor, taylor_weights
from jobs.benchmarks.baselines.lemica import edge_weights, interpolated, minimax_path
from tests.sencache.support.toys import sample, tiny_pipe

STEPS = 12


def path_cost(costs: Any, path: Sequence[int]) -> float:
    steps = [*path, len(costs)]
    return float(sum(costs[i, j, k] for i, j, k in zip(steps, steps[1:], steps[2:], strict=False)))


def forward_only(costs: Any) -> Any:
    """Costs of triples that rise; all others are infinite."""
    i, j, k = np.indices(costs.shape)
    return np.where((i < j) & (j < k), costs, np.inf)


def published_path(costs: Any, computed: int, first: int) -> list[int]:
    """The recurrence of the paper: one predecessor per step, the best so far."""
    end = len(costs)
    best = {first - 1: (0.0, list(range(first)))}
    for _ in range(computed - first):
        after: dict[int, tuple[float, list[int]]] = {}
        for j, (spent, path) in best.items():
            for k in range(j + 1, end):
                total = spent + costs[path[-2], j, k]
                if total < after.get(k, (np.inf, []))[0]:
                    after[k] = (total, [*path, k])
        best = after
    return min(best.values(), key=lambda each: each[0] + costs[each[1][-2], each[1][-1], end])[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("computed", [4, 5, 7])
def test_the_cheapest_path_is_the_one_that_brute_force_finds(seed: int, computed: int) -> None:
    steps, first = 9, 3
    costs = forward_only(np.random.default_rng(seed).random((steps, steps, steps + 1)) ** 4)
    paths = [
        (*range(first), *rest)
        for rest in itertools.combinations(range(first, steps), computed - first)
    ]
    best = min(paths, key=lambda path: path_cost(costs, path[first - 2 :]))
    found = cheapest_path(costs, computed, first)
    assert found == best
    published = published_path(costs, computed, first)
    assert path_cost(costs, found[first - 2 :]) <= path_cost(costs, published[first - 2 :]) + 1e-12


def test_the_published_search_finds_it_where_costs_have_one_predecessor() -> None:
    rng = np.random.default_rng(1)
    costs = forward_only(np.broadcast_to(rng.random((9, 10)), (9, 9, 10)))
    assert cheapest_path(costs, 5, 3) == tuple(published_path(costs, 5, 3))


def test_a_line_costs_nothing() -> None:
    time = torch.arange(STEPS).double()
    line = torch.stack([2 * time + 1, -time], 1)
    costs = cost_tensor(line, 1)
    inside = costs[..., :STEPS]  # behind the last step stands a blend with a mean
    assert np.isfinite(inside).sum() > 50
    assert np.allclose(inside[np.isfinite(inside)], 0.0, atol=1e-9)
    assert costs[4, 5, 8] < cost_tensor((time**2)[:, None], 1)[4, 5, 8] == pytest.approx(14 + 6)


@pytest.mark.parametrize("anchors", [(3,), (2, 5), (1, 4, 5)])
def test_taylor_weights_are_the_published_recurrence(anchors: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = dict(zip(anchors, rng.random(len(anchors)), strict=True))
    factors: list[float] = []
    for at, anchor in enumerate(anchors):
        updated = [values[anchor]]
        for i, before in enumerate(factors):
            updated.append((updated[i] - before) / (anchor - anchors[at - 1]))
        factors = updated
    ahead = 7 - anchors[-1]
    wanted = sum(f * ahead**i / (1, 1, 2)[i] for i, f in enumerate(factors))
    got = taylor_weights(anchors, [7])[0] @ np.array([values[a] for a in anchors])
    assert got == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("computed", [3, 4, 6])
def test_the_minimax_path_is_the_one_that_brute_force_finds(seed: int, computed: int) -> None:
    steps = 9
    weights = np.random.default_rng(seed).integers(1, 5, (steps, steps)).astype(float)  # many ties
    weights[np.arange(8), np.arange(1, 9)] = 0.0
    weights[2, 6] = np.inf

    def falling(path: Sequence[int]) -> list[float]:
        return sorted((weights[i, j] for i, j in itertools.pairwise(path)), reverse=True)

    paths = [
        (0, *rest, steps - 1) for rest in itertools.combinations(range(1, steps - 1), computed - 2)
    ]
    found = minimax_path(weights, computed)
    assert falling(found) == min(falling(path) for path in paths)


def test_a_budget_that_no_path_has_is_no_path() -> None:
    weights = np.full((9, 9), np.inf)
    weights[np.arange(8), np.arange(1, 9)] = 0.0
    assert minimax_path(weights, 5) == ()
    assert minimax_path(weights, 9) == tuple(range(9))


def test_edges_between_measured_ones_are_interpolated() -> None:
    weights = interpolated({(0, 2): 1.0, (4, 2): 100.0, (0, 5): 4.0, (4, 5): 400.0}, 10)
    assert weights[0, 2] == pytest.approx(1.0)
    assert weights[2, 4] == pytest.approx(10.0)  # half way, on a logarithmic scale
    assert weights[0, 3] == pytest.approx(2.0)  # two steps held, between one and four
    assert weights[3, 4] == 0.0
    assert np.isinf(weights[0, 6])
    assert np.isinf(weights[5, 5])


@pytest.mark.slow
def test_small_runs_follow_their_schedules() -> None:
    pipe = tiny_pipe()
    plain = sample(pipe, [1, 2], STEPS)

    def sampling(baseline: Baseline | None) -> torch.Tensor:
        if baseline is None:
            return plain
        with baseline.applied(pipe):
            return sample(pipe, [1, 2], STEPS)

    weights = edge_weights(sampling, STEPS, stride=1, gaps=(2, 4))
    alone = LeMiCa(weights=weights).budgeted(11, STEPS)
    assert weights[alone.layout()[-1], alone.layout()[-1]] == np.inf
    (skipped,) = set(range(STEPS)) - set(alone.layout())
    edges = [weights[i - 1, i + 1] for i in range(1, STEPS - 1)]
    assert skipped == 1 + int(np.argmin(edges))  # one gap: the edge that harms least
    change = (sampling(alone).double() - plain.double()).abs().mean().item()
    assert change == pytest.approx(min(edges))

    fitted = DPCache.fitted(pipe, lambda: sample(pipe, [1, 2], STEPS))
    for method in (fitted.budgeted(7, STEPS), LeMiCa(weights=weights).budgeted(7, STEPS)):
        with method.applied(pipe) as decisions:
            sample(pipe, [1, 2], STEPS)
        computed = method.layout()
        assert decisions() == ["".join("RC"[s in computed] for s in range(STEPS))] * 2
    assert torch.equal(sample(pipe, [1, 2], STEPS), plain)


@pytest.mark.skipif(
    not importlib.util.find_spec("cache_dit"), reason="cache-dit is in the extra `perception`"
)
@pytest.mark.slow
def test_cache_dit_computes_its_mask_and_leaves_no_trace() -> None:
    pipe = tiny_pipe()
    call, plain = type(pipe).__call__, sample(pipe, [1, 2], STEPS)
    for calibrator in (*CALIBRATORS, "none"):
        with CacheDit(calibrator).budgeted(6, STEPS).applied(pipe) as decisions:
            sample(pipe, [1, 2], STEPS)
        assert decisions()[0].startswith("CCC")
        assert nfe_of(decisions) == [6.0, 6.0]
    assert type(pipe).__call__ is call
    assert torch.equal(sample(pipe, [1, 2], STEPS), plain)
