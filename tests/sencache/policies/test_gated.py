"""The gate of planned runs: each row goes on by a plan, chosen by nothing but the row itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from sencache import SenCacheConfig, SensitivityProfile, apply_sencache, remove_sencache
from sencache.policies.gated import (
    Gate,
    ScheduledRows,
    gate_ratio,
)
from sencache.schedules.budget import SHARED
from sencache.schedules.planner import CacheSchedule
from sencache.stats import SampleStats
from tests.sencache.policies.test_planned import measured
from tests.sencache.policies.test_planned_pipelines import made, with_drift
from tests.sencache.support.tiny_pipelines import PIPELINES, fitting_profile
from tests.sencache.support.toys import (
    CountRows,
    sample,
    tiny_pipe,
    unipc,
)

STEPS, COMPUTED, GATE = 20, 11, 3
FAMILY_STEPS = 16
SEEDS = [3, 4, 5, 6]


def config(ratio: float, gate: int = GATE, budget: float = COMPUTED / STEPS) -> SenCacheConfig:
    return SenCacheConfig(policy="planned", budget=budget, gate=gate, gate_ratio=ratio)


@pytest.fixture(scope="module")
def profile() -> SensitivityProfile:
    return measured(tiny_pipe())


@pytest.fixture
def pipe() -> Iterator[Any]:
    pipe = tiny_pipe()
    yield pipe
    remove_sencache(pipe)


def gate_errors(stats: list[SampleStats]) -> list[float]:
    return [gate_ratio(each) for each in stats]


def between(errors: list[float]) -> float:
    """A ratio that some of the rows are above and some below."""
    low, high = sorted(errors)[len(errors) // 2 - 1 :][:2]
    return (low + high) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "nfe"), [(0.0, COMPUTED + GATE), (1e9, COMPUTED - 1)])
def test_rows_that_are_all_alike_follow_one_plan(
    profile: SensitivityProfile, pipe: Any, ratio: float, nfe: int
) -> None:
    handle = apply_sencache(pipe, config(ratio), profile)
    counter = CountRows(pipe.transformer.patch_embedding)
    sample(pipe, SEEDS, STEPS)
    assert [stats.nfe for stats in handle.stats()] == [nfe] * len(SEEDS)
    assert counter.rows == [len(SEEDS)] * 2 * nfe


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [None, unipc])
def test_a_row_of_a_gated_batch_is_its_run_alone(
    profile: SensitivityProfile, scheduler: Any
) -> None:
    pipe = tiny_pipe(scheduler() if scheduler else None)
    handle = apply_sencache(pipe, config(1e9), profile)
    sample(pipe, SEEDS, STEPS)
    errors = gate_errors(handle.stats())
    ratio = between(errors)
    remove_sencache(pipe)
    handle = apply_sencache(pipe, config(ratio), profile)
    counter = CountRows(pipe.transformer.patch_embedding)
    together = sample(pipe, SEEDS, STEPS)
    rows = handle.stats()
    wanted = [COMPUTED + GATE if error > ratio else COMPUTED - 1 for error in errors]
    assert [stats.nfe for stats in rows] == wanted
    assert len(set(wanted)) == 2
    assert sum(counter.rows) == 2 * sum(wanted)  # two branches, and nobody runs along
    shared = [step for step, what in enumerate(rows[0].decisions) if what == "C"][SHARED - 1]
    assert len({stats.decisions[: shared + 1] for stats in rows}) == 1
    for row, seed in enumerate(SEEDS):
        alone = sample(pipe, [seed], STEPS)[0]
        assert handle.stats()[0].decisions == rows[row].decisions
        assert (together[row] - alone).abs().max() <= 1e-5 * alone.square().mean().sqrt()
    assert all(refresh.predicted is not None for each in rows for refresh in each.refreshes)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_branches_of_a_row_follow_one_plan(name: str) -> None:
    """CogVideoX holds both branches in one batch, Wan calls one after the other."""
    tiny = next(tiny for tiny in PIPELINES if tiny.name == name)
    pipe, seeds = tiny.make(), [0, 1, 2]
    if name == "cogvideox":
        pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
    profile, budget = with_drift(fitting_profile(pipe)), (SHARED + 4) / FAMILY_STEPS
    handle = apply_sencache(pipe, config(1e9, 1, budget), profile)
    tiny.run(pipe, seeds, FAMILY_STEPS)
    ratio = between(gate_errors(handle.stats()))
    remove_sencache(pipe)
    handle = apply_sencache(pipe, config(ratio, 1, budget), profile)
    together = tiny.run(pipe, seeds, FAMILY_STEPS)
    rows = handle.stats()
    assert {stats.nfe for stats in rows} == {SHARED + 3, SHARED + 5}
    assert all(stats.evaluations == 2 * stats.nfe for stats in rows)
    alone = tiny.run(pipe, [1], FAMILY_STEPS)
    rms = alone.float().square().mean().sqrt()
    assert (together[1:2] - alone).abs().max() <= 1e-4 * rms


def test_a_run_broken_off_behind_the_gate_leaves_nothing(
    profile: SensitivityProfile, pipe: Any
) -> None:
    handle = apply_sencache(pipe, config(1e9), profile)
    sample(pipe, SEEDS, STEPS)
    ratio = between(gate_errors(handle.stats()))
    remove_sencache(pipe)
    apply_sencache(pipe, config(ratio), profile)
    fresh = sample(pipe, SEEDS, STEPS)

    def stop(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == STEPS - 3:
            raise KeyboardInterrupt
        return values

    with pytest.raises(KeyboardInterrupt):
        sample(pipe, SEEDS, STEPS, callback_on_step_end=stop)
    assert torch.equal(sample(pipe, SEEDS, STEPS), fresh)


class AllHard:
    """Ranks of which the first found every row hard."""

    disagreements = decisions = 0

    def settle(self, facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        self.decisions += 1
        facts = facts.clone()
        self.disagreements += not bool(facts[:, verdicts].all())
        facts[:, verdicts] = 1.0
        return facts


def test_ranks_agree_once_a_run_and_only_if_there_is_a_gate(
    profile: SensitivityProfile, pipe: Any
) -> None:
    ranks = AllHard()
    handle = apply_sencache(pipe, config(1e9), profile, agreement=ranks)
    sample(pipe, SEEDS, STEPS)
    assert [stats.nfe for stats in handle.stats()] == [COMPUTED + GATE] * len(SEEDS)
    assert (ranks.decisions, ranks.disagreements) == (1, 1)
    remove_sencache(pipe)
    apply_sencache(pipe, config(1e9, gate=0), profile, agreement=ranks)
    sample(pipe, SEEDS, STEPS)
    assert ranks.decisions == 1


def test_rows_that_are_not_finite_are_hard() -> None:
    gate = Gate(5, 0.1, CacheSchedule(8, (0, 7), {}, 0.0), CacheSchedule(8, (0, 4, 7), {}, 0.0))
    assert gate.split([True, False, True]) == (
        ScheduledRows((1,), gate.easy),
        ScheduledRows((0, 2), gate.hard),
    )
    assert gate.split([True]) == (ScheduledRows((0,), gate.hard),)
    from sencache.policies.planned import PlannedPolicy

    policy = PlannedPolicy(None, None, 1000)  # type: ignore[arg-type]
    assert policy._hard(torch.tensor([math.nan, 0.05, math.inf]), gate.limit) == [True, False, True]


@pytest.mark.parametrize("budget", [0.25, 0.95])
def test_a_budget_without_room_for_the_gate_is_refused(
    profile: SensitivityProfile, pipe: Any, budget: float
) -> None:
    apply_sencache(pipe, config(1.0, budget=budget), profile)
    with pytest.raises(
        ValueError, match=f"with this gate it can be {SHARED + 2} to {STEPS - GATE}"
    ):
        sample(pipe, [3], STEPS)


def test_two_networks_have_no_gate() -> None:
    pipe = made("wan-experts")
    with pytest.raises(ValueError, match="for pipelines with one network"):
        apply_sencache(pipe, config(1.0), with_drift(fitting_profile(pipe)))


def test_the_gate_is_part_of_an_identity_only_where_there_is_one() -> None:
    profile = with_drift(fitting_profile(tiny_pipe()))
    plain = config(0.5, gate=0).identity(profile)
    assert "gate" not in plain
    gated = config(0.5).identity(profile)
    assert gated == plain | {"gate": GATE, "gate_ratio": 0.5}
