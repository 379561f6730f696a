"""The shipped priors: which there are, and that they run any model of their prediction."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import warnings
from typing import Any, get_args

import diffusers
import numpy as np
import pytest

from sencache import ProfileError, SenCacheConfig
from sencache.profiles.noise_levels import NoiseLevels, Prediction, for_sampler, prediction_of
from sencache.profiles.prior import prior_profile
from sencache.schedules.levels import plan_of_run, promised_error
from tests.sencache.support.toys import euler

PREDICTIONS = get_args(Prediction)


def ddim(prediction_type: str, **changes: Any) -> Any:
    return diffusers.DDIMScheduler(prediction_type=prediction_type, clip_sample=False, **changes)


@pytest.mark.parametrize(
    ("scheduler", "prediction"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler(), "flow"),
        (diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction"), "flow"),
        (diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction"), "flow"),
        (diffusers.UniPCMultistepScheduler(), "epsilon"),
        (diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction"), "v"),
        (ddim("epsilon"), "epsilon"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "flow"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, "v"),
    ],
)
def test_a_scheduler_tells_what_is_predicted(scheduler: Any, prediction: str) -> None:
    assert prediction_of(scheduler) == prediction


@pytest.mark.parametrize("scheduler", [ddim("sample"), {"_class_name": "LMSDiscreteScheduler"}])
def test_another_prediction_has_no_prior(scheduler: Any) -> None:
    with pytest.raises(ProfileError, match="prediction_type"):
        prediction_of(scheduler)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_prior_says_what_it_rests_on(prediction: Prediction) -> None:
    prior = prior_profile(prediction)
    assert prior is prior_profile(prediction)
    assert prior.metadata.is_prior
    assert (prior.metadata.time, prior.metadata.prediction) == ("sigma", prediction)
    assert prior.metadata.basis["clips"] >= 8
    assert prior.metadata.basis["models"]
    assert set(prior.branches) == {"cond", "uncond"}
    assert prior.drift is not None
    assert 0 <= min(prior.drift.tau) < max(prior.drift.tau) <= 1


def test_an_unknown_prior_is_an_error() -> None:
    with pytest.raises(ProfileError, match="no prior for prediction 'x0'"):
        prior_profile("x0")  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_prior_fits_every_model_without_a_word(prediction: Prediction) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior_profile(prediction).check(
            model="any",
            revision="1",
            family="ltx",
            architecture="0" * 12,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=500),
            num_inference_steps=4,
            guided=False,
            size=(1280, 720, 121),
            adapters=("style",),
        )


def test_priors_and_plans_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from sencache import SenCacheConfig\n"
        "from sencache.profiles.own_clips import profile_from_clips\n"
        "from sencache.profiles.prior import prior_profile\n"
        "from sencache.schedules.levels import plan_for\n"
        "times = [1 - step / 20 for step in range(20)]\n"
        "config = SenCacheConfig(policy='planned', budget=0.5)\n"
        "plan = plan_for(config, prior_profile('flow'), times, [0.05] * 20)\n"
        "assert len(plan.computed) == 10\n"
        "sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon"])
def test_noise_levels_of_a_diffusion_model_are_its_signal_to_noise_ratios(kind: str) -> None:
    scheduler = ddim(kind)
    levels = NoiseLevels.of_scheduler(scheduler)
    alpha_squared = scheduler.alphas_cumprod.numpy().astype(float)
    ratio = np.sqrt((1 - alpha_squared) / alpha_squared)  # of noise to signal
    share = np.array(levels.sigma)
    np.testing.assert_allclose(share / (1 - share), ratio, rtol=1e-5)
    taus = [0.9, 0.5, 0.1]
    np.testing.assert_allclose(levels.tau_at(levels.sigma_at(taus)), taus, atol=1e-9)


def test_noise_levels_of_flow_matching_are_tau() -> None:
    prior = prior_profile("flow")
    assert NoiseLevels.of_scheduler(euler()).sigma_at((0.7, 0.2)) == (0.7, 0.2)
    moved = for_sampler(prior, euler())
    assert (moved.metadata.time, moved.drift) == ("tau", prior.drift)
    for branch, points in prior.branches.items():
        for point, same in zip(points, moved.branches[branch], strict=True):
            assert dataclasses.astuple(same) == pytest.approx(dataclasses.astuple(point))
    assert for_sampler(moved, ddim("epsilon")) is moved  # over tau it is as it was measured


def test_sensitivities_to_time_are_per_tau_of_the_scheduler() -> None:
    prior, scheduler = prior_profile("v"), ddim("v_prediction")
    levels = NoiseLevels.of_scheduler(scheduler)
    moved = for_sampler(prior, scheduler)
    by_sigma = {point.tau: point for point in prior.branches["cond"]}
    inner = moved.branches["cond"][10:40]
    for before, point in itertools.pairwise(inner):
        sigma = levels.sigma_at([before.tau, point.tau])
        known = by_sigma[min(by_sigma, key=lambda each: abs(each - sigma[0]))]
        assert before.a_x == pytest.approx(known.a_x, rel=0.01)
        # The change of the output over one step does not depend on the unit of time.
        change = before.a_t * (before.tau - point.tau)
        assert change == pytest.approx(known.a_t * (sigma[0] - sigma[1]), rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_prior_plans_and_promises(prediction: Prediction) -> None:
    kinds = {"v": "v_prediction", "epsilon": "epsilon"}
    scheduler = euler() if prediction == "flow" else ddim(kinds[prediction])
    scheduler.set_timesteps(50)
    prior = prior_profile(prediction)
    errors = [
        promised_error(
            plan_of_run(SenCacheConfig(policy="planned", budget=budget), prior, scheduler), prior
        )
        for budget in (0.26, 0.5, 0.8)
    ]
    assert errors == sorted(errors, reverse=True)
    assert 1e-5 < errors[1] < 0.3


def test_a_prior_of_another_prediction_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"for v prediction .* has flow"):
        for_sampler(prior_profile("v"), euler())
    with pytest.raises(ProfileError, match="needs the scheduler"):
        for_sampler(prior_profile("epsilon"), None)
