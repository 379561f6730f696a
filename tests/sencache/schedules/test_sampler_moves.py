from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from sencache.schedules.sampler_moves import step_moves
from tests.sencache.support.toys import euler, unipc


def dpm() -> Any:
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def ddim() -> Any:
    return CogVideoXDDIMScheduler(
        timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
    )


def sampled(scheduler: Any, outputs: torch.Tensor, steps: int, start: torch.Tensor) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    latents = start
    for step, timestep in enumerate(scheduler.timesteps):
        latents = scheduler.step(outputs[step], timestep, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("make", [euler, unipc, dpm, ddim])
@pytest.mark.parametrize("steps", [1, 4, 13])
def test_the_moves_tell_what_a_change_of_outputs_does(make: Any, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    start, *outputs = torch.randn(2 * steps + 1, 1, 6, generator=generator, dtype=torch.float64)
    one, two = torch.stack(outputs).split(steps)
    scheduler = make()
    difference = sampled(make(), one, steps, start) - sampled(make(), two, steps, start)
    scheduler.set_timesteps(steps)
    moves = torch.tensor(step_moves(scheduler), dtype=torch.float64)
    told = torch.einsum("s,sbn->bn", moves, one - two)
    assert torch.allclose(told, difference.double(), atol=1e-4)


def test_eulers_moves_are_the_differences_of_sigma() -> None:
    scheduler = euler()
    scheduler.set_timesteps(20)
    assert torch.allclose(torch.tensor(step_moves(scheduler)), scheduler.sigmas.diff())


@pytest.mark.parametrize("make", [euler, unipc, dpm])
def test_a_run_before_or_one_that_broke_off_does_not_show(make: Any) -> None:
    fresh, used = make(), make()
    fresh.set_timesteps(9)
    moves = step_moves(fresh)
    used.set_timesteps(9)
    latents = torch.ones(1, 4)
    for timestep in used.timesteps[:5]:
        latents = used.step(latents, timestep, latents, return_dict=False)[0]
    before = used.step_index
    assert step_moves(used) == pytest.approx(moves)
    assert used.step_index == before


def test_other_settings_have_other_moves() -> None:
    one, two = euler(), FlowMatchEulerDiscreteScheduler(shift=7.0)
    one.set_timesteps(10)
    two.set_timesteps(10)
    assert step_moves(one) != step_moves(two)


def random_sampler() -> Any:
    return FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)


@pytest.mark.parametrize("make", [random_sampler, CogVideoXDPMScheduler])
def test_a_sampler_that_is_random_or_needs_more_than_outputs_is_refused(make: Any) -> None:
    scheduler = make()
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match="cannot be told"):
        step_moves(scheduler)


def test_unipc_uses_an_output_again_in_later_steps() -> None:
    scheduler = unipc()
    assert isinstance(scheduler, UniPCMultistepScheduler)
    scheduler.set_timesteps(10)
    assert not torch.allclose(torch.tensor(step_moves(scheduler)), scheduler.sigmas.diff())
