"""Fitted plans come nearer to the uncached run than plans of the same steps, in real pipelines."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sencache import ProfileWarning, SenCacheConfig, apply_sencache, remove_sencache
from sencache.calibration.fitting import RunsToFit, fit_plan
from sencache.schedules.drift import OutputDrift
from sencache.schedules.sampler_moves import step_moves, step_responses, step_times
from tests.sencache.support.toys import euler, make_profile, sample, tiny_pipe, unipc

STEPS, COMPUTED = 10, (0, 2, 5, 9)
SEEDS = (1, 2, 3, 4)


def relative(made: torch.Tensor, whole: torch.Tensor) -> float:
    return float((made - whole).square().mean().sqrt() / whole.square().mean().sqrt())


def runs(pipe: Any) -> list[Callable[[], torch.Tensor]]:
    return [functools.partial(sample, pipe, SEEDS[i : i + 2], STEPS) for i in (0, 2)]


@pytest.mark.parametrize("scheduler", [euler, pytest.param(unipc, marks=pytest.mark.variant)])
def test_a_fitted_plan_is_nearer_than_the_best_plan_of_the_drift(
    scheduler: Callable[[], Any],
) -> None:
    pipe = tiny_pipe(scheduler())
    pipe.transformer.proj_out.weight.data *= 8  # outputs that change over the run
    clips = RunsToFit.of(pipe, runs(pipe), 4.0)
    plan = fit_plan(clips, COMPUTED)
    assert plan.computed == COMPUTED
    outputs = torch.cat(clips.outputs, dim=1)
    distances = torch.cdist(outputs, outputs).square().double().numpy() / outputs.shape[1]
    times = step_times(pipe.scheduler)
    drift = OutputDrift.of_outputs(times, np.asarray(distances))
    profile = make_profile()
    profile = dataclasses.replace(profile, drift=drift)
    config = SenCacheConfig(policy="planned", budget=len(COMPUTED) / STEPS)
    errors = {}
    for name, plans in (("fitted", (plan,)), ("drift", ())):
        used = dataclasses.replace(profile, plans=plans)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProfileWarning)  # of another sampler
            handle = apply_sencache(pipe, config, used)
        made = torch.cat([run().flatten() for run in runs(pipe)])
        decisions = handle.stats()[0].decisions
        remove_sencache(pipe)
        errors[name] = relative(made, torch.cat(clips.latents))
        if name == "fitted":
            assert decisions == "".join("CR"[step not in COMPUTED] for step in range(STEPS))
    # Runs by the settings of a user do what the fit did.
    assert errors["fitted"] == pytest.approx(plan.error, rel=1e-3)
    assert errors["fitted"] < 0.9 * errors["drift"]


def test_the_responses_tell_the_latents_before_every_step() -> None:
    for scheduler in (euler(), unipc()):
        generator = torch.Generator().manual_seed(0)
        outputs = torch.randn(6, 1, 5, generator=generator, dtype=torch.float64)
        scheduler.set_timesteps(6)
        response = torch.from_numpy(step_responses(scheduler))
        assert response[:, -1].tolist() == pytest.approx(step_moves(scheduler))
        start = torch.randn(1, 5, generator=generator, dtype=torch.float64)
        latents = start
        for step, timestep in enumerate(scheduler.timesteps):
            told = start + torch.einsum("s,sbn->bn", response[:, step], outputs)
            assert torch.allclose(told, latents, atol=1e-4)
            latents = scheduler.step(outputs[step], timestep, latents, return_dict=False)[0]


def test_a_pipeline_with_two_networks_or_a_cache_is_refused() -> None:
    pipe = tiny_pipe()
    apply_sencache(pipe, SenCacheConfig(policy="none"))
    with pytest.raises(ValueError, match="a cache is applied"):
        RunsToFit.of(pipe, [], None)
    remove_sencache(pipe)
    pipe.transformer_2 = tiny_pipe().transformer
    with pytest.raises(ValueError, match="one network; this one has 2"):
        RunsToFit.of(pipe, [], None)
