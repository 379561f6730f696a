from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.schema import CACHE_TYPE
from pipeline.errors import UserError
from pipeline.models.registry import MODELS, shipped_folder
from pipeline.models.samplers import RANDOM_SAMPLERS, SAMPLERS, make_scheduler
from pipeline.requests.cache_spec import (
    cache_struct,
    cached,
    from_spec,
    planned_nfe,
    to_spec,
)
from pipeline.requests.sample_request import CacheSpec
from sencache import (
    SampleStats,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    step_moves,
)
from sencache.policies.planned import drift_planner


def stats(decisions: str, predicted: float | None, actual: float | None) -> SampleStats:
    nfe = decisions.count("C")
    return SampleStats(
        "paper", "ab" * 8, nfe, len(decisions) - nfe, decisions, 2 * nfe, predicted, actual, 1
    )


@given(
    epsilon=st.floats(0, 10),
    strict=st.floats(0, 10),
    fraction=st.floats(0, 1),
    reuse=st.integers(1, 50),
)
def test_without_reuse_every_setting_is_the_same_cache(
    epsilon: float, strict: float, fraction: float, reuse: int
) -> None:
    config = SenCacheConfig(
        policy="none",
        epsilon=epsilon,
        strict_epsilon=strict,
        strict_fraction=fraction,
        max_reuse=reuse,
    )
    assert to_spec(config, None) == CacheSpec()


def test_epsilon_zero_is_no_cache() -> None:
    assert to_spec(SenCacheConfig(policy="paper", epsilon=0.0), None) == CacheSpec()


def test_a_spec_leads_back_to_the_settings(profile: Any) -> None:
    config = SenCacheConfig(epsilon=0.3, strict_epsilon=0.02, strict_fraction=0.1, max_reuse=4)
    spec = to_spec(config, profile)
    assert spec.policy == "paper"
    assert spec.profile == profile.hash
    back = from_spec(spec, 50, 4.0)
    assert back.num_inference_steps == 50
    assert to_spec(back, profile) == spec


def test_statistics_become_the_rows_struct() -> None:
    struct = cache_struct(stats("CRCCRCC", 1.0, None), 7)
    assert (struct["decisions"], struct["nfe"], struct["reused"]) == ("CRCCRCC", 5, 2)
    assert (struct["predicted_error"], struct["actual_error"]) == (1.0, None)
    assert set(struct) == {CACHE_TYPE.field(i).name for i in range(CACHE_TYPE.num_fields)}


def test_statistics_of_another_run_are_not_believed() -> None:
    with pytest.raises(RuntimeError, match="cover 3 of 4 steps"):
        cache_struct(stats("CRC", 1.0, 1.0), 4)


def test_every_option_leads_back_from_a_spec(profile: Any) -> None:
    config = SenCacheConfig(correct=True, reuse="residual", row_buckets=(1, 2), final_computed=2)
    back = from_spec(to_spec(config, profile), 50, 6.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config
    assert back.guidance


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("repair", [False, True])
def test_a_planned_spec_leads_back_to_its_settings(profile: Any, order: int, repair: bool) -> None:
    config = SenCacheConfig(policy="planned", budget=0.4, order=order, repair=repair)
    back = from_spec(to_spec(config, profile), 50, 1.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config


def test_a_gated_spec_leads_back_to_its_settings(profile: Any) -> None:
    config = SenCacheConfig(policy="planned", budget=0.4, gate=2, gate_ratio=0.3)
    back = from_spec(to_spec(config, profile), 50, 1.0)
    assert dataclasses.replace(back, num_inference_steps=None, guidance=None) == config


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("budget", [0.01, 0.1, 0.34, 0.5, 1.0])
def test_the_nfe_told_beforehand_is_the_plan_s(budget: float, steps: int) -> None:
    demo = MODELS["demo"]
    profile = SensitivityProfile.load(shipped_folder(demo) / demo.profile)
    assert profile.drift is not None
    planner = drift_planner(SenCacheConfig(policy="planned", budget=budget), profile.drift)
    times = tuple(1 - step / steps for step in range(steps))
    least, most = planned_nfe(budget, steps)
    assert len(planner(times, (1 / steps,) * steps, ()).computed) == least
    for cut in (1, steps // 2):
        if 0 < cut < steps - 1:
            two_networks = planner(times, (1 / steps,) * steps, (cut,)).computed
            assert least <= len(two_networks) <= most
    if budget >= 0.2 and steps >= 10:
        assert least == most


@pytest.mark.parametrize(
    ("family", "sampler"), [(family, name) for family, names in SAMPLERS.items() for name in names]
)
def test_every_sampler_but_the_random_one_can_be_planned(family: str, sampler: str) -> None:
    scheduler = make_scheduler(sampler, family, {})
    scheduler.set_timesteps(10)  # more than any sampler's memory
    if sampler in RANDOM_SAMPLERS:
        with pytest.raises(ValueError, match="cannot be told"):
            step_moves(scheduler)
    else:
        assert len(step_moves(scheduler)) == 10


class Unknown(torch.nn.Module):
    """A network of a family that nobody knows."""


def pipe_of(network: torch.nn.Module) -> Any:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return SimpleNamespace(transformer=network, scheduler=scheduler)


def test_a_cache_that_is_already_on_is_not_taken_for_an_unknown_network() -> None:
    network = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=8,
        num_layers=1,
        rope_max_seq_len=16,
    )
    uncached = SenCacheConfig(policy="none", num_inference_steps=3)
    apply_sencache(network, uncached)
    with pytest.raises(ValueError, match="already"), cached(pipe_of(network), uncached, None):
        pass


def test_an_unknown_network_is_told_by_name(profile: Any) -> None:
    with (
        pytest.raises(UserError, match=r"does not know the transformer class Unknown"),
        cached(pipe_of(Unknown()), SenCacheConfig(), profile),
    ):
        pass


def test_the_cache_comes_off_whatever_happens() -> None:
    network = diffusers.WanTransformer3DModel(num_layers=1, num_attention_heads=1, ffn_dim=8)
    before = dict(vars(network))
    with (
        pytest.raises(KeyError),
        cached(pipe_of(network), SenCacheConfig(policy="none"), None),
    ):
        raise KeyError
    assert {**vars(network), "_diffusers_hook": None} == {**before, "_diffusers_hook": None}
