"""The planned policy's decisions one by one, with calls made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sencache.policies.base import Decision, Restart
from sencache.policies.planned import PlannedPolicy, _is_stale
from sencache.schedules.planner import CacheSchedule, Forecast

FORECAST = Forecast((0,), (1.0,))
CHECK = Forecast((0, 1), (2.0, -1.0))
SCHEDULE = CacheSchedule(
    6, (0, 3, 5), {1: FORECAST, 2: FORECAST, 4: FORECAST}, 0.1, {3: (CHECK, 0.25)}
)


def policy(agreement: Any = None) -> PlannedPolicy:
    sampler = SimpleNamespace(
        times=lambda *_: (1.0, 0.8, 0.6, 0.4, 0.2, 0.1), moves=lambda: (0.2,) * 6, cuts=lambda _: ()
    )
    return PlannedPolicy(lambda *_: SCHEDULE, sampler, 1000, None, agreement)  # type: ignore[arg-type]


def call(tau: float, rows: int = 2) -> Any:
    return SimpleNamespace(
        rows=rows, latents=torch.zeros(rows, 1), tau=lambda _: torch.full((rows,), tau)
    )


def position(step: int | None, run: int | None = None) -> Any:
    return SimpleNamespace(step=step, run=run, context="cond", branches=("cond",))


def trajectory(step: int, **changes: Any) -> Any:
    kept = {"cond": SimpleNamespace(step=0, groups=())}
    own = {"schedule": None, "scheduled": None, "gate": None, "seen_tau": None}
    return SimpleNamespace(**{"step": step, "samples": 2, "kept": kept, **own, **changes})


@pytest.mark.parametrize(
    ("tau", "seen", "known", "again"),
    [
        (0.9, 0.5, False, True),  # time rose: another run begins
        (0.4, 0.5, False, False),
        (0.5, 0.5, False, False),  # the same step of another branch
        (0.9, None, False, False),
        (0.9, 0.5, True, False),  # the pipeline counts, so time tells nothing
    ],
)
def test_a_run_begins_again_where_only_time_shows_it(
    tau: float, seen: float | None, known: bool, again: bool
) -> None:
    before = trajectory(1, seen_tau=None if seen is None else torch.full((2,), seen))
    found = policy().decide(call(tau), position(1 if known else None), before)
    assert isinstance(found, Restart) is again


def test_the_first_call_of_a_context_begins_no_other_run() -> None:
    first = trajectory(0, kept={}, seen_tau=torch.full((2,), 0.5))
    assert isinstance(policy().decide(call(0.9), position(None), first), Decision)


@pytest.mark.parametrize(
    ("step", "run", "kept"), [(None, None, True), (2, None, False), (None, 7, False)]
)
def test_time_is_kept_where_only_it_tells(step: int | None, run: int | None, kept: bool) -> None:
    now = trajectory(2, schedule=SCHEDULE)
    decision = policy().decide(call(0.6), position(step, run), now)
    assert isinstance(decision, Decision)
    policy().remember(call(0.6), position(step, run), now, decision, None)
    assert (now.seen_tau is not None) is kept
    assert not kept or now.seen_tau.tolist() == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize("step", range(6))
def test_a_group_gets_what_the_schedule_says(step: int) -> None:
    last = max(computed for computed in (0, 3, 5) if computed <= step)
    kept = {"cond": SimpleNamespace(step=min(last, step - 1), groups=())} if step else {}
    now = trajectory(step, kept=kept, schedule=SCHEDULE)
    decision = policy().decide(call(0.5), position(step), now)
    assert isinstance(decision, Decision)
    (group,) = decision.groups
    assert decision.computed == [step in SCHEDULE.computed] * 2
    assert (group.rows, group.computed) == ((0, 1), step in SCHEDULE.computed)
    assert group.forecast == SCHEDULE.forecasts.get(step)
    assert group.check == (CHECK if step == 3 else None)
    expected = decision.scores.get("cond")
    assert (expected is not None) == (step in (3, 5))
    assert step != 3 or expected is None or expected.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("kept", "step", "stale"), [(1, 4, True), (3, 4, False), (1, 3, False), (0, 0, False)]
)
def test_an_output_is_stale_if_a_computed_step_lies_between(
    kept: int, step: int, stale: bool
) -> None:
    assert _is_stale(SimpleNamespace(step=kept), step, SCHEDULE) is stale  # type: ignore[arg-type]


def test_ranks_settle_which_clips_are_hard() -> None:
    asked = []

    def settle(facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        asked.append(verdicts)
        settled = facts.clone()
        settled[:, verdicts] = 1 - settled[:, verdicts]
        return settled

    errors = torch.tensor([0.1, 0.9, float("nan"), 0.5])
    assert policy()._hard(errors, 0.5) == [False, True, True, False]
    agreement = SimpleNamespace(settle=settle)
    assert policy(agreement)._hard(errors, 0.5) == [True, False, False, True]
    assert asked == [1]
