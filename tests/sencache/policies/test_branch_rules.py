"""Which rules a run has, and what a profile that was measured otherwise is said to be."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sencache import ProfileError, SenCacheConfig
from sencache.hook.trajectory import CallPosition
from sencache.policies.branch_rules import BranchRules
from sencache.policies.official import OfficialRule
from sencache.policies.sensitivity_rule import SensitivityRule
from sencache.profiles.official import OfficialProfile
from sencache.profiles.profile import ProfileWarning
from tests.sencache.support.toys import make_profile

AUTHORS = OfficialProfile((1000.0, 0.0), (2.0, 2.0), (3.0, 3.0), "wan", num_train_timesteps=1000)


def call_of(*shape: int) -> Any:
    return SimpleNamespace(latents=torch.zeros(2, *shape))


def at(*branches: Any, steps: int = 12) -> CallPosition:
    return CallPosition(None, 0, steps, branches)


def said(rules: BranchRules, position: CallPosition, call: Any = None) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rules.prepare(call or call_of(3), position)
    assert all(issubclass(each.category, ProfileWarning) for each in caught)
    return [str(each.message) for each in caught]


def score(rules: BranchRules, branch: Any) -> float:
    """The score of a move of 1 in the latents and of none in time."""
    tau = torch.tensor([0.5])
    memory = rules[branch].begin(tau)
    return rules[branch].verdict(memory, tau, torch.tensor([1.0]), 0.0).score.item()


def test_one_branch_decides_unless_the_other_is_to_decide_for_itself() -> None:
    rules = BranchRules(SenCacheConfig(), make_profile(a_x=0.25))
    assert (len(rules), list(rules)) == (0, [])
    assert said(rules, at("cond", "uncond")) == []
    assert list(rules) == ["cond"]
    assert type(rules["cond"]) is SensitivityRule
    assert score(rules, "cond") == pytest.approx(0.25)
    own = BranchRules(SenCacheConfig(uncond_verdict="own"), make_profile(a_x=0.5))
    said(own, at("cond", "uncond"))
    assert list(own) == ["cond", "uncond"]
    assert score(own, "uncond") == pytest.approx(0.5)


def test_a_branch_that_decides_must_have_been_measured() -> None:
    alone = make_profile(branches=("cond",))
    with pytest.raises(ProfileError, match="no branch 'uncond'"):
        BranchRules(SenCacheConfig(uncond_verdict="own"), alone)
    BranchRules(SenCacheConfig(), alone)
    BranchRules(SenCacheConfig(policy="none", uncond_verdict="own"), alone)


def test_rules_stay_until_the_latents_have_another_size() -> None:
    rules = BranchRules(SenCacheConfig(), make_profile())
    said(rules, at("cond"))
    first = rules["cond"]
    said(rules, at("cond"))
    assert rules["cond"] is first
    said(rules, at("cond"), call_of(1))
    assert rules["cond"] is not first
    small = BranchRules(SenCacheConfig(), make_profile())
    said(small, at("cond"), call_of(1))
    assert list(small) == ["cond"]


def test_the_authors_rule_scales_with_the_elements_of_a_row() -> None:
    rules = BranchRules(SenCacheConfig(policy="official"), AUTHORS)
    assert rules.num_train_timesteps == 1000
    scores = []
    for elements in (4, 16):
        assert said(rules, at("cond"), call_of(elements)) == []
        rule = rules["cond"]
        assert type(rule) is OfficialRule
        tau = torch.tensor([1.0])
        memory = rule.begin(tau)
        wanted = AUTHORS.curve("cond", elements)(tau)
        assert (memory.a_x.item(), memory.a_t.item()) == tuple(each.item() for each in wanted)
        scores.append((memory.a_x.item(), memory.a_t.item()))
        # A fifth of the calls, two per step: 20 of 100 calls, so the first 10 of 50 steps.
        strict = [
            step
            for step in range(1, 49)
            if rule.threshold(step, 50) != SenCacheConfig(policy="official").epsilon
        ]
        assert strict == list(range(1, 10))
    assert scores[0] != scores[1]


def test_the_unit_of_time_is_the_profile_s() -> None:
    assert BranchRules(SenCacheConfig(policy="none"), None).num_train_timesteps == 1000
    assert (
        BranchRules(SenCacheConfig(), make_profile(num_train_timesteps=500)).num_train_timesteps
        == 500
    )
    authors = OfficialProfile((700.0, 0.0), (1.0, 1.0), (1.0, 1.0), "wan", num_train_timesteps=700)
    assert BranchRules(SenCacheConfig(policy="official"), authors).num_train_timesteps == 700


def test_without_a_profile_every_score_is_unknown() -> None:
    rules = BranchRules(SenCacheConfig(policy="none"), None)
    assert said(rules, at("cond", "uncond")) == []
    assert score(rules, "cond") != score(rules, "cond")  # NaN


GUIDED = (
    "profile was measured without guidance but the run has it; the same epsilon may reuse another "
    "number of steps"
)


def test_guidance_that_was_not_measured_is_said_once_when_it_shows() -> None:
    rules = BranchRules(SenCacheConfig(), make_profile(branches=("cond",)))
    assert said(rules, at("cond")) == []
    assert said(rules, at("uncond")) == [GUIDED]
    assert said(rules, at("uncond")) == []
    assert said(rules, at("cond", "uncond")) == []
    assert said(rules, at("uncond")) == []


def test_another_number_of_steps_is_said_once() -> None:
    rules = BranchRules(SenCacheConfig(), make_profile())
    (first,) = said(rules, at("cond", steps=30))
    assert "30" in first
    assert said(rules, at("uncond", steps=30)) == []
    assert said(BranchRules(SenCacheConfig(), make_profile()), at("cond", steps=12)) == []


def test_a_run_that_reuses_nothing_compares_nothing() -> None:
    rules = BranchRules(SenCacheConfig(epsilon=0.0), make_profile(branches=("cond",)))
    assert said(rules, at("cond", "uncond", steps=30)) == []
