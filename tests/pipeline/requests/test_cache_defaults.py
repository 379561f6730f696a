"""The cache that requests ask for: its identity, its profile, and what is refused before a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.profile import load_profile
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity
from pipeline.storage.storage import Storage
from sencache import SensitivityProfile
from sencache.profiles.prior import prior_profile
from sencache.schedules.budget import PLANNER_VERSION
from tests.model_fixtures import changed

WAN = "wan2.1-t2v-1.3b"


def config(**changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"prompts": "p.txt", "output": "out", "cache": {"policy": "none"}}
    return RunConfig.model_validate(fields | changes)


@given(epsilon=st.floats(0, 100), reuse=st.integers(1, 100), strict=st.floats(0, 1))
def test_policy_none_is_one_cache_whatever_else_is_set(
    epsilon: float, reuse: int, strict: float
) -> None:
    cache = {
        "policy": "none",
        "epsilon": epsilon,
        "max_reuse": reuse,
        "strict_epsilon": strict,
        "strict_fraction": strict,
        "profile": "nowhere.json",
    }
    assert CacheIdentity.of(config(cache=cache).cache.to_sencache(), None) == CacheIdentity()
    assert load_profile(config(cache=cache).cache, resolve_model(WAN)) is None


def test_the_cache_of_a_request_names_its_profile(
    wan_profile: Path, profile: SensitivityProfile
) -> None:
    cache = {"policy": "paper", "epsilon": 0.25, "profile": str(wan_profile)}
    template = request_defaults(config(model=WAN, cache=cache), resolve_model(WAN)).template
    assert template.cache.policy == "paper"
    assert template.cache.profile == profile.hash
    assert '"epsilon":0.25' in template.cache.params


@pytest.mark.parametrize("policy", ["paper", "planned"])
def test_a_model_without_a_profile_measures_its_own_or_takes_the_prior(
    policy: str, storage: Storage
) -> None:
    settings, model = config(model=WAN, cache={"policy": policy}), resolve_model(WAN)
    waiting = request_defaults(settings, model, storage)
    assert waiting.chosen.is_pending
    assert waiting.template.cache.profile == UNMEASURED
    prior = prior_profile("flow").hash
    for other in (
        request_defaults(settings, model),
        request_defaults(settings, model, storage, measure=False),
        request_defaults(
            config(model=WAN, cache={"policy": policy, "measure_clips": 0}), model, storage
        ),
    ):
        assert (other.chosen.source, other.template.cache.profile) == ("prior", prior)
        assert other.template.cache.params == waiting.template.cache.params


def test_an_own_profile_that_cannot_be_had_is_refused(storage: Storage) -> None:
    settings = config(model=WAN, cache={"policy": "planned", "profile": "own"})
    model = resolve_model(WAN)
    assert request_defaults(settings, model, storage).chosen.is_pending
    with pytest.raises(UserError, match=r"--cache\.profile own: this prefix holds no profile"):
        request_defaults(settings, model, storage, measure=False)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({}, ""),
        ({"flow_shift": 3.0}, "shift 8.0 but the run has 3.0"),
        ({"num_inference_steps": 50}, "num_inference_steps 5 but the run has 50"),
        ({"guidance_scale": 1.0}, "guidance but the run has no guidance"),
        ({"width": 832, "height": 480}, "clips of 64x64x9 but the run has 832x480x9"),
    ],
)
def test_a_run_far_from_its_profile_is_warned_of_once(
    wan_profile: Path, caplog: pytest.LogCaptureFixture, differs: dict[str, Any], said: str
) -> None:
    as_measured = {"num_inference_steps": 5, "width": 64, "height": 64, "num_frames": 9}
    cache = {"policy": "paper", "profile": str(wan_profile)}
    settings = config(model=WAN, cache=cache, sampling=as_measured | differs)
    for _ in range(2):  # as a program does that builds a Dataset
        request_defaults(settings, resolve_model(WAN))
    assert [said in record.getMessage() for record in caplog.records] == [True] * bool(said)


def test_a_budget_makes_a_planned_cache_of_the_shipped_profile() -> None:
    planned = config(cache={"policy": "planned", "budget": 0.4})
    model = resolve_model("demo", "")
    spec = request_defaults(planned, model).template.cache
    assert spec.policy == "planned"
    assert '"budget":0.4' in spec.params
    shipped = load_profile(planned.cache, model)
    assert shipped is not None
    assert spec.profile == shipped.hash
    other = config(cache={"policy": "planned", "budget": 0.5})
    assert request_defaults(other, model).template.cache != spec


def test_a_plan_without_a_drift_is_refused_before_the_run(tmp_path: Path) -> None:
    model = resolve_model("demo", "")
    shipped = load_profile(config(cache={"policy": "paper"}).cache, model)
    assert shipped is not None
    path = tmp_path / "old.json"
    dataclasses.replace(shipped, drift=None).save(path)
    old = config(cache={"policy": "planned", "profile": str(path)})
    with pytest.raises(UserError, match=r"drift of the output.*jobs/calibrate\.py"):
        request_defaults(old, model)


def test_a_sampler_that_cannot_be_planned_is_refused_before_the_run(tmp_path: Path) -> None:
    shipped = load_profile(config(cache={"policy": "paper"}).cache, resolve_model("demo", ""))
    assert shipped is not None
    model = resolve_model("cogvideox-5b")
    path = tmp_path / "cog.json"
    changed(shipped, model=model.spec.name, family="cogvideox", revision=model.revision).save(path)
    cache = {"budget": 0.4, "profile": str(path)}
    sampling = {"sampler": "CogVideoXDPMScheduler"}
    with pytest.raises(
        UserError,
        match=r"planned: CogVideoXDPM.*--sampling\.sampler CogVideoXDDIMScheduler, .*policy paper",
    ):
        request_defaults(config(model=model.spec.name, cache=cache, sampling=sampling), model)
    sampling = {"sampler": "CogVideoXDDIMScheduler"}
    request_defaults(config(model=model.spec.name, cache=cache, sampling=sampling), model)


def test_a_gate_without_room_is_refused_before_the_run() -> None:
    model = resolve_model("demo", "")
    request_defaults(config(cache={"budget": 0.34, "gate": 2}), model)
    request_defaults(config(cache={"policy": "none", "gate": 49}), model)
    with pytest.raises(UserError, match=r"cache\.gate: .* computes 17 of 50 .* be 7 to 10"):
        request_defaults(config(cache={"budget": 0.34, "gate": 40}), model)


PAPER = (
    '"epsilon":0.1,"max_reuse":3,"strict_epsilon":0.01,"strict_fraction":0.2,'
    '"uncond_verdict":"follow"}'
)


PLANNED = f'"order":1,"planner":{PLANNER_VERSION},"repair":true}}'


@pytest.mark.parametrize(
    ("cache", "policy", "params"),
    [
        ({"policy": "none"}, "none", "{}"),
        ({"policy": "none", "epsilon": 0.3, "correct": True}, "none", "{}"),
        ({"epsilon": 0.0}, "none", "{}"),
        ({}, "planned", '{"max_error":0.01,' + PLANNED),
        ({"policy": "paper"}, "paper", "{" + PAPER),
        ({"correct": True}, "paper", '{"correct":true,' + PAPER),
        ({"policy": "planned"}, "planned", '{"max_error":0.01,' + PLANNED),
        ({"budget": 0.34, "gate": 0}, "planned", '{"budget":0.34,' + PLANNED),
    ],
)
def test_settings_keep_the_identity_that_stored_samples_have(
    cache: dict[str, Any], policy: str, params: str
) -> None:
    """Literal: another text would make a resumed run make every clip again."""
    settings = config(cache=cache).cache
    spec = CacheIdentity.of(settings.to_sencache(), load_profile(settings, resolve_model("demo")))
    assert (spec.policy, spec.params) == (policy, params)
    assert bool(spec.profile) == (policy != "none")


def test_a_gate_is_refused_for_a_model_with_two_networks() -> None:
    demo = resolve_model("demo")
    given = config(cache={"budget": 0.34, "gate": 2})
    request_defaults(given, demo)
    two = dataclasses.replace(demo, spec=dataclasses.replace(demo.spec, two_networks=True))
    with pytest.raises(UserError, match=r"cache\.gate 2: demo has two networks, and a gate is for"):
        request_defaults(given, two)
    request_defaults(config(cache={"budget": 0.34}), two)
    assert [spec.name for spec in MODELS.values() if spec.two_networks] == ["wan2.2-t2v-a14b"]


@pytest.mark.parametrize(
    ("cache", "steps", "measures"),
    [
        ({}, 50, True),
        ({}, 6, False),  # the plan computes every step
        ({"budget": 0.5}, 6, True),
        ({"measure_clips": 4}, 6, True),
        ({"profile": "own"}, 6, True),
    ],
)
def test_a_run_whose_plan_reuses_nothing_measures_nothing_by_itself(
    tmp_path: Path, cache: dict[str, Any], steps: int, measures: bool
) -> None:
    model = resolve_model("wan2.1-t2v-1.3b")
    settings = config(model=model.spec.name, cache=cache, sampling={"num_inference_steps": steps})
    chosen = request_defaults(settings, model, Storage(str(tmp_path))).chosen
    assert chosen.source == ("own" if measures else "prior")
