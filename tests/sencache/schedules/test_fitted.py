"""Fitted plans: what they say, which runs follow them, and what a profile keeps of them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from pipeline.models.registry import MODELS, shipped_folder
from sencache import ProfileError, SenCacheConfig, SensitivityProfile
from sencache.policies.choice import _kept_outputs
from sencache.schedules.fitted import FittedPlan
from sencache.schedules.levels import plan_for, promised_error
from tests.sencache.support.toys import make_profile

DEMO = SensitivityProfile.load(shipped_folder(MODELS["demo"]) / MODELS["demo"].profile)
TIMES = tuple(1 - 0.1 * step for step in range(8))
MOVES = (0.125,) * 8
PLAN = FittedPlan(TIMES, MOVES, (0, 2, 7), ((1.5,), (-0.5, 1.25), (0.5, 0.75)), 0.03)
FITTED = dataclasses.replace(DEMO, plans=(PLAN,))
BUDGET = SenCacheConfig(policy="planned", budget=3 / 8)


def test_a_sum_is_given_until_the_next_computed_step() -> None:
    schedule = PLAN.schedule(0.5)
    assert (schedule.steps, schedule.computed, schedule.error) == (8, (0, 2, 7), 0.5)
    given = {step: (each.anchors, each.weights) for step, each in schedule.forecasts.items()}
    first, second = ((0,), (1.5,)), ((0, 2), (-0.5, 1.25))
    assert given == {
        **dict.fromkeys((0, 1), first),
        **dict.fromkeys(range(2, 7), second),
        7: ((2, 7), (0.5, 0.75)),
    }


def test_a_run_with_its_steps_and_budget_follows_it() -> None:
    plan = plan_for(BUDGET, FITTED, TIMES, MOVES)
    assert plan.forecasts == PLAN.schedule(0.0).forecasts
    assert promised_error(plan, FITTED) == pytest.approx(0.03)
    order_two = dataclasses.replace(PLAN, weights=((1.5,), (-0.5, 1.25), (0.1, 0.5, 0.75)))
    assert _kept_outputs(BUDGET, FITTED) == 1
    assert _kept_outputs(BUDGET, dataclasses.replace(DEMO, plans=(order_two,))) == 2


@pytest.mark.parametrize(
    ("config", "times", "moves"),
    [
        (SenCacheConfig(policy="planned", budget=4 / 8), TIMES, MOVES),
        (SenCacheConfig(policy="planned", max_error=0.03), TIMES, MOVES),
        (dataclasses.replace(BUDGET, order=2), TIMES, MOVES),
        (dataclasses.replace(BUDGET, repair=False), TIMES, MOVES),
        (BUDGET, (0.999, *TIMES[1:]), MOVES),
        (BUDGET, TIMES, (*MOVES[:-1], 0.126)),
        (BUDGET, TIMES[:-1], MOVES[:-1]),
    ],
)
def test_any_other_run_is_planned_as_without_it(
    config: SenCacheConfig, times: tuple[float, ...], moves: tuple[float, ...]
) -> None:
    assert plan_for(config, FITTED, times, moves) == plan_for(config, DEMO, times, moves)


def test_a_profile_keeps_its_plans_and_they_are_part_of_its_hash() -> None:
    bare = make_profile()
    profile = dataclasses.replace(bare, plans=(PLAN,))
    again = SensitivityProfile.from_json(profile.to_json())
    assert again == profile
    other = dataclasses.replace(PLAN, weights=((1.5,), (-0.5, 1.25), (0.5, 0.7)))
    hashes = {each.hash for each in (bare, profile, dataclasses.replace(bare, plans=(other,)))}
    assert len(hashes) == 3
    assert "plans" not in json.loads(bare.to_json())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moves": MOVES[1:]}, "one move per step"),
        ({"computed": (1, 2, 7)}, "rise from 0"),
        ({"computed": (0, 2, 2)}, "rise from 0"),
        ({"computed": (0, 2, 8)}, "within the run"),
        ({"weights": ((1.0,), (1.0,))}, "one row of weights per computed step"),
        ({"weights": ((0.5, 0.5), (1.0,), (1.0,))}, "known by then"),
        ({"weights": ((1.0,), (), (1.0,))}, "known by then"),
        ({"error": float("nan")}, "finite"),
    ],
)
def test_what_no_plan_can_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        dataclasses.replace(PLAN, **changes)
