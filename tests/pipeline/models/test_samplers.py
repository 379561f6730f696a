from __future__ import annotations

import diffusers
import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily
from pipeline.models.families.cogvideox import COGVIDEOX
from pipeline.models.families.ltx import LTX
from pipeline.models.families.wan import WAN
from pipeline.models.registry import MODELS
from pipeline.models.samplers import check_sampler, make_scheduler, sampler_name
from pipeline.models.spec import ModelSpec
from sencache.extension import step_moves

EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
LCM = "FlowMatchLCMScheduler"
LEVELS = (1.0, 0.9375, 0.625)


def sigmas(
    sampler: str, family: ModelFamily, saved: dict[str, object], steps: int = 8
) -> torch.Tensor:
    scheduler = make_scheduler(sampler, family, saved)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas


@pytest.mark.parametrize("shift", [None, 1.0, 3.0, 8.0])
def test_a_sampler_name_splits_into_what_it_was_made_of(shift: float | None) -> None:
    assert check_sampler(sampler_name(UNIPC, shift), WAN) == (UNIPC, shift)


def test_the_name_has_the_form_of_the_identity() -> None:
    assert sampler_name(EULER, 3) == "FlowMatchEulerDiscreteScheduler/3.0"


@pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)
def test_every_allowed_sampler_exists_and_takes_steps(spec: ModelSpec) -> None:
    for class_name in spec.family.samplers:
        scheduler = make_scheduler(class_name, spec.family, {"num_train_timesteps": 1000})
        assert type(scheduler) is getattr(diffusers, class_name)
        assert scheduler.order == 1  # one network evaluation a step


@pytest.mark.parametrize("class_name", WAN.samplers)
def test_flow_samplers_follow_the_shifted_flow_schedule(class_name: str) -> None:
    saved = dict(diffusers.UniPCMultistepScheduler().config)
    shift = 5.0
    # UniPC and DPM-Solver space sigma over 1 + steps points and drop the end; Euler over steps.
    values = sigmas(f"{class_name}/{shift}", WAN, saved)
    assert values[0] == pytest.approx(1.0, abs=2e-3)
    assert values[-1] == 0
    unshifted = values[:-1] / (shift - (shift - 1) * values[:-1])
    gaps = unshifted[:-1] - unshifted[1:]
    assert gaps.max() - gaps.min() < 5e-3


def test_the_result_does_not_depend_on_what_ran_before() -> None:
    saved = dict(diffusers.UniPCMultistepScheduler(flow_shift=3.0).config)
    direct = sigmas(f"{EULER}/7.0", WAN, saved)
    make_scheduler(f"{UNIPC}/12.0", WAN, saved)
    assert torch.equal(sigmas(f"{EULER}/7.0", WAN, saved), direct)


def test_a_saved_dynamic_shift_is_kept_unless_one_is_given() -> None:
    saved = dict(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config)
    assert make_scheduler(EULER, LTX, saved).config.use_dynamic_shifting
    fixed = make_scheduler(f"{EULER}/2.0", LTX, saved)
    assert not fixed.config.use_dynamic_shifting
    assert fixed.config.shift == 2.0


def test_cogvideox_starts_at_the_last_timestep() -> None:
    scheduler = make_scheduler("CogVideoXDDIMScheduler", COGVIDEOX, {"num_train_timesteps": 1000})
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[0] == 999


def test_a_sampler_of_another_family_is_refused() -> None:
    with pytest.raises(UserError, match="does not fit the cogvideox family: use CogVideoXDDIM"):
        check_sampler(f"{UNIPC}/3.0", COGVIDEOX)


def test_a_shift_where_there_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="takes no flow shift"):
        check_sampler("CogVideoXDPMScheduler/3.0", COGVIDEOX)


@pytest.mark.parametrize("class_name", [EULER, LCM])
@pytest.mark.parametrize(
    "saved",
    [
        {"shift": 8.0},
        {"use_dynamic_shifting": True, "shift_terminal": 0.1},
        {"_class_name": UNIPC, "flow_shift": 8.0, "use_flow_sigmas": True},
    ],
    ids=["shift", "dynamic", "unipc"],
)
def test_listed_levels_are_taken_as_they_are(class_name: str, saved: dict[str, object]) -> None:
    scheduler = make_scheduler(class_name, WAN, saved, LEVELS)
    scheduler.set_timesteps(40, device="cpu")  # as Wan's pipeline asks
    assert scheduler.sigmas.tolist() == [*LEVELS, 0.0]
    assert scheduler.timesteps.tolist() == [1000.0 * level for level in LEVELS]
    scheduler.set_timesteps(sigmas=[1.0, 0.5], device="cpu", mu=1.0)  # as LTX-Video's asks
    assert scheduler.sigmas.tolist() == [*LEVELS, 0.0]


@pytest.mark.parametrize("class_name", [UNIPC, "DPMSolverMultistepScheduler"])
def test_samplers_with_a_memory_take_no_levels(class_name: str) -> None:
    with pytest.raises(UserError, match=f"{class_name} takes no list of sigmas: use {EULER} or"):
        make_scheduler(class_name, WAN, {}, LEVELS)


def test_a_shift_and_levels_contradict_each_other() -> None:
    with pytest.raises(UserError, match=r"flow_shift 3\.0 would move them"):
        make_scheduler(f"{EULER}/3.0", WAN, {}, LEVELS)


def noisy_steps(seeds: list[int]) -> torch.Tensor:
    """Latents after two steps of LCM with a network that predicts nothing, a seed a row."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    scheduler = make_scheduler(LCM, WAN, {}, LEVELS, generators)
    scheduler.set_timesteps(3, device="cpu")
    latents = torch.ones(len(seeds), 2, 3)
    for timestep in scheduler.timesteps[:2]:
        latents = scheduler.step(torch.zeros_like(latents), timestep, latents, return_dict=False)[0]
    return latents


def test_the_noise_of_a_row_is_its_own() -> None:
    together = noisy_steps([3, 4])
    torch.manual_seed(1)
    assert torch.equal(noisy_steps([4]), together[1:])
    assert not torch.equal(together[0], together[1])
    # Every step of LCM mixes the predicted clip with fresh noise: recompute it by hand.
    own = torch.Generator().manual_seed(4)
    expected = torch.ones(1, 2, 3)
    for level in LEVELS[1:]:
        expected = (1 - level) * expected + level * torch.randn(1, 2, 3, generator=own)
    torch.testing.assert_close(together[1:], expected)


def test_looking_at_a_sampler_does_not_use_up_the_noise_of_its_rows() -> None:
    rows = [torch.Generator().manual_seed(4)]
    scheduler = make_scheduler(LCM, WAN, {}, LEVELS, rows)
    scheduler.set_timesteps(3, device="cpu")
    before = rows[0].get_state()
    with pytest.raises(ValueError, match="cannot be told"):
        step_moves(scheduler)
    assert torch.equal(rows[0].get_state(), before)


def test_the_moves_of_listed_levels_are_their_differences() -> None:
    scheduler = make_scheduler(EULER, WAN, {}, LEVELS)
    scheduler.set_timesteps(3, device="cpu")
    assert step_moves(scheduler) == pytest.approx((-0.0625, -0.3125, -0.625))
