"""How a run caches: which settings ask for which policy, and which contradict each other."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from pipeline.config.cache_section import CONFLICT, CacheConfig, settle, without_overridden
from pipeline.models.registry import MODELS, shipped_folder
from sencache import QUALITY, SenCacheConfig, SensitivityProfile
from sencache.config import DEFAULT_MAX_ERROR
from sencache.policies.planned import profile_planner


def test_the_qualities_are_the_library_s() -> None:
    assert {*get_args(CacheConfig.model_fields["quality"].annotation)} == {"", *QUALITY}
    assert QUALITY["balanced"].max_error == SenCacheConfig(policy="planned").error_limit


@pytest.mark.parametrize("name", QUALITY)
def test_a_quality_is_what_the_library_means_by_it(name: str) -> None:
    config = CacheConfig.model_validate({"quality": name})
    assert config.to_sencache() == QUALITY[name]


@pytest.mark.parametrize(
    ("given_settings", "policy", "budget", "max_error", "epsilon"),
    [
        ({}, "planned", None, DEFAULT_MAX_ERROR, None),
        ({"quality": ""}, "planned", None, DEFAULT_MAX_ERROR, None),
        ({"max_reuse": 2}, "paper", None, None, 0.1),
        ({"order": 2}, "planned", None, DEFAULT_MAX_ERROR, None),
        ({"budget": 0.4}, "planned", 0.4, None, None),
        ({"max_error": 0.01}, "planned", None, 0.01, None),
        ({"budget": None, "epsilon": 0.2}, "paper", None, None, 0.2),
        ({"policy": "planned"}, "planned", None, DEFAULT_MAX_ERROR, None),
        ({"policy": "none"}, "none", None, None, None),
        ({"policy": "none", "budget": 0.4}, "none", 0.4, None, None),
        ({"quality": "lossless"}, "none", None, None, None),
        ({"quality": "high", "order": 0}, "planned", None, QUALITY["high"].max_error, None),
    ],
)
def test_what_is_given_chooses_the_policy(
    given_settings: dict[str, Any],
    policy: str,
    budget: float | None,
    max_error: float | None,
    epsilon: float | None,
) -> None:
    config = CacheConfig.model_validate(given_settings)
    assert (config.policy, config.epsilon) == (policy, epsilon)
    assert (config.budget, config.max_error) == (budget, max_error)
    assert config.order == given_settings.get("order", 1)


@pytest.mark.parametrize(
    ("given_settings", "names"),
    [
        ({"quality": "fast", "policy": "none"}, ["quality", "policy"]),
        ({"quality": "fast", "budget": 0.3}, ["quality", "budget"]),
        ({"quality": "lossless", "epsilon": 0.3}, ["quality", "epsilon"]),
        ({"budget": 0.3, "epsilon": 0.3}, ["budget", "epsilon"]),
        ({"budget": 0.3, "max_error": 0.3}, ["budget", "max_error"]),
        ({"max_error": 0.3, "epsilon": 0.3}, ["max_error", "epsilon"]),
        ({"quality": "fast", "max_error": 0.3}, ["quality", "max_error"]),
        ({"policy": "paper", "max_error": 0.3}, ["policy", "max_error"]),
        ({"quality": "fast", "gate": 2}, ["gate"]),
        ({"policy": "none", "budget": 0.3, "epsilon": 0.3}, ["budget", "epsilon"]),
        ({"policy": "planned", "epsilon": 0.3}, ["policy", "epsilon"]),
        ({"policy": "paper", "budget": 0.3}, ["policy", "budget"]),
        ({"policy": "official"}, ["policy"]),
    ],
)
def test_contradictions_are_named(given_settings: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        settle(given_settings)
    assert caught.value.type == CONFLICT
    assert (caught.value.context or {})["names"] == names


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "quality": st.sampled_from(["", *QUALITY]),
        "policy": st.sampled_from(["none", "paper", "planned"]),
        "budget": st.none() | st.sampled_from([0.2, 1.0]),
        "max_error": st.none() | st.sampled_from([0.0, 0.03]),
        "epsilon": st.none() | st.sampled_from([0.0, 0.3]),
        "order": st.integers(0, 2),
    },
)


def settled(settings: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return settle(settings)
    except PydanticCustomError:
        return None


@given(SETTINGS)
def test_what_comes_out_goes_in_again_unchanged(settings: dict[str, Any]) -> None:
    once = settled(settings)
    if once is not None:
        assert settle(once) == once


@given(SETTINGS, SETTINGS)
def test_two_sources_that_are_each_right_are_right_together(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    if settled(below) is None or settled(above) is None:
        return
    together = settle(without_overridden(below, above) | above)
    for name, value in above.items():
        if value not in (None, "") and name != "quality":
            assert together[name] == value


def test_a_policy_alone_keeps_what_it_reads_of_the_lower_source() -> None:
    below = {"policy": "paper", "epsilon": 0.2, "max_reuse": 2}
    assert without_overridden(below, {"policy": "paper"}) == below
    assert without_overridden(below, {"policy": "planned"}) == {"policy": "paper", "max_reuse": 2}
    assert without_overridden(below, {"max_reuse": 5}) == below


@pytest.mark.parametrize("steps", [1, 2, 3, 10, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("budget", [0.01, 0.1, 0.34, 0.5, 1.0])
def test_the_nfe_told_beforehand_is_the_plan_s(budget: float, steps: int) -> None:
    demo = MODELS["demo"]
    profile = SensitivityProfile.load(shipped_folder(demo) / demo.profile)
    planner = profile_planner(SenCacheConfig(policy="planned", budget=budget), profile)
    times = tuple(1 - step / steps for step in range(steps))
    least, most = CacheConfig.model_validate({"budget": budget}).planned_nfe(steps)
    assert len(planner(times, (1 / steps,) * steps, ()).computed) == least
    for cut in (1, steps // 2):
        if 0 < cut < steps - 1:
            two_networks = planner(times, (1 / steps,) * steps, (cut,)).computed
            assert least <= len(two_networks) <= most
    if budget >= 0.2 and steps >= 10:
        assert least == most
