"""How much an error at one step of a run grows or shrinks until its end.

Early errors lead to a different clip and grow; later steps partly undo late ones. Measured by
causing a known error, two steps held instead of computed, at a few places of otherwise uncached
runs, and comparing the latents at the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from sencache.apply import apply_policy
from sencache.families.base import Family
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import boundary_of
from sencache.policies.planned import PlannedPolicy, Planner
from sencache.reuse.forecast import ForecastReuse
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import CacheSchedule
from sencache.schedules.weights import combined_error

HELD = 2
"""Steps held at each place."""
PLACES = 12
"""Places along a run; the gain is interpolated between them."""

Run = Callable[[], torch.Tensor]
"""Samples the same clips each time and returns their latents, shape [clips, ...]."""


def measure_gain(
    pipe: Any,
    networks: Mapping[str, tuple[torch.nn.Module, Family]],
    drift: OutputDrift,
    run: Run,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, ...]:
    """Gain of an error at each step, shape [T].

    Costs :data:`PLACES` runs of the clips and one more.

    Args:
        pipe: The pipeline, without a cache.
        networks: By name, its networks and their families.
        drift: Of the same runs.
        run: One call of the pipeline.
        progress: Called with the runs done and the runs in all.

    Raises:
        ValueError: The run is too short, or its sampler has no moves.
    """
    steps = drift.steps
    if steps < HELD + 3:
        raise ValueError(f"a run of {steps} steps is too short; {HELD + 3} steps or more will do")
    sampler = SamplerPosition(lambda: pipe.scheduler, boundary_of(pipe))
    cuts = sampler.cuts(drift.tau)
    places = [
        int(place)
        for place in np.unique(np.linspace(0, steps - HELD - 2, PLACES).round())
        # Both held steps belong to one network: the next one has no output to hold yet.
        if not any(place < cut <= place + HELD + 1 for cut in cuts)
    ]
    unit = int(pipe.scheduler.config["num_train_timesteps"])
    moves = np.array(sampler.moves())
    clean = run().double()
    progress(1, len(places) + 1)
    centres, gains = [], []
    for index, place in enumerate(places):
        held = range(place + 1, place + 1 + HELD)
        policy = functools.partial(_policy, planner=_holding(held), unit=unit)
        with apply_policy(pipe, policy, networks):
            moved = run().double()
        progress(index + 2, len(places) + 1)
        end = (moved - clean).square().mean().sqrt().item()
        made = combined_error(drift.matrix(), held, [place], np.ones((HELD, 1)), moves[list(held)])
        if made > 0.0 and end > 0.0:
            centres.append(place + (1 + HELD) / 2)
            gains.append(end / made)
    if not gains:
        return (1.0,) * steps
    return tuple(float(f"{g:.4g}") for g in np.interp(np.arange(steps), centres, gains))


def _policy(
    _name: str,
    _network: torch.nn.Module,
    _family: Family,
    sampler: SamplerPosition,
    *,
    planner: Planner,
    unit: int,
) -> tuple[PlannedPolicy, ForecastReuse]:
    """Policy and reuse of runs whose steps are held or computed."""
    return PlannedPolicy(planner, sampler, unit), ForecastReuse(order=0)


def _holding(held: range) -> Planner:
    """A planner of schedules that hold given steps and compute all others."""

    def plan(
        times: tuple[float, ...], moves: tuple[float, ...], cuts: tuple[int, ...]
    ) -> CacheSchedule:
        steps = range(len(times))
        return CacheSchedule(len(times), tuple(step for step in steps if step not in held), {}, 0.0)

    return plan
