"""Both plans of a gate, for outputs that change early, late or steadily: no budget that has room is
refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sencache import SenCacheConfig
from sencache.policies.gated import Gate, profile_gate
from sencache.schedules.budget import MAX_GAP, SHARED
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import CacheSchedule, make_schedule, schedule_of


def bent(steps: int, power: float) -> OutputDrift:
    """Outputs on a circle; with a large power they move fast at the end, else at the start."""
    turned = 2.0 * np.linspace(0, 1, steps) ** power
    outputs = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    distances = ((outputs[:, None] - outputs[None]) ** 2).mean(-1)
    return OutputDrift.of_outputs(np.linspace(1, 0.1, steps).tolist(), distances)


@pytest.mark.parametrize("power", [0.15, 1.0, 8.0])
@pytest.mark.parametrize(
    ("steps", "gate"),
    [
        *((8, 1), (9, 2), (24, 1), (24, 6)),
        pytest.param(50, 3, marks=(pytest.mark.slow, pytest.mark.variant)),
    ],
)
def test_every_budget_with_room_has_an_easy_and_a_hard_plan(
    power: float, steps: int, gate: int
) -> None:
    drift = bent(steps, power)
    times, moves = tuple(np.linspace(1, 0.1, steps).tolist()), (1 / steps,) * steps
    profile: Any = SimpleNamespace(drift=drift)
    for computed in sorted({SHARED + 2, (steps + SHARED) // 2, steps - gate}):
        if not SHARED + 2 <= computed <= steps - gate:
            continue
        config = SenCacheConfig(policy="planned", budget=computed / steps, gate=gate)
        schedule = make_schedule(drift.at(times), moves, computed)
        made = profile_gate(config, profile)(schedule, times, moves)
        assert made is not None
        shared = schedule.computed[:SHARED]
        assert made.step == shared[-1]
        after = steps - 1 - made.step
        hard, easy = made.hard.computed, made.easy.computed
        assert hard[:SHARED] == easy[:SHARED] == shared
        assert hard[-1] == easy[-1] == steps - 1
        assert len(hard) == (
            computed + gate if after >= computed + gate - SHARED else SHARED + after
        )
        one_less = SHARED + -(-after // (MAX_GAP + 1)) <= computed - 1
        assert len(easy) == (computed - 1 if one_less else computed)


@pytest.mark.slow
@pytest.mark.parametrize("order", [0, 2])
def test_both_plans_forecast_as_the_settings_say(order: int) -> None:
    drift, times, moves = bent(24, 1.0), tuple(np.linspace(1, 0.1, 24).tolist()), (1 / 24,) * 24
    profile: Any = SimpleNamespace(drift=drift)
    config = SenCacheConfig(policy="planned", budget=0.5, gate=2, order=order, repair=False)
    schedule = make_schedule(drift.at(times), moves, 12, order=order, repair=False)
    made = profile_gate(config, profile)(schedule, times, moves)
    assert made is not None
    for plan in (made.easy, made.hard):
        wanted = schedule_of(drift.at(times), moves, plan.computed, order=order, repair=False)
        assert plan.forecasts == wanted.forecasts


def test_a_gate_moves_with_the_steps_that_a_run_skips() -> None:
    easy, hard = CacheSchedule(9, (0, 4, 8), {}, 0.0), CacheSchedule(9, (0, 4, 6, 8), {}, 0.0)
    late = Gate(4, 0.5, easy, hard).after(3)
    assert (late.step, late.limit) == (7, 0.5)
    assert (late.easy.computed, late.hard.computed) == ((3, 7, 11), (3, 7, 9, 11))
    assert (late.easy.steps, late.hard.steps) == (12, 12)
