from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.caching import cache_struct, cached, from_spec, to_spec
from pipeline.errors import UserError
from pipeline.request import CacheSpec
from pipeline.schema import CACHE_TYPE
from sencache import SampleStats, SenCacheConfig, apply_sencache


def stats(decisions: str, predicted: float | None, actual: float | None) -> SampleStats:
    nfe = decisions.count("C")
    return SampleStats(
        "paper", "ab" * 8, nfe, len(decisions) - nfe, decisions, predicted, actual, 1
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
    back = from_spec(spec, 50)
    assert back.num_inference_steps == 50
    assert to_spec(back, profile) == spec


def test_parts_of_a_run_become_one_struct() -> None:
    struct = cache_struct([stats("CRC", 1.0, 2.0), stats("CRCC", 4.0, 5.0)], 7)
    assert struct["decisions"] == "CRCCRCC"
    assert struct["nfe"] == 5
    assert struct["reused"] == 2
    assert struct["predicted_error"] == pytest.approx((1.0 * 1 + 4.0 * 2) / 3)
    assert struct["actual_error"] == pytest.approx((2.0 * 1 + 5.0 * 2) / 3)
    assert set(struct) == {CACHE_TYPE.field(i).name for i in range(CACHE_TYPE.num_fields)}


@pytest.mark.parametrize("value", [None, float("inf"), float("nan")])
def test_an_error_that_was_not_measured_is_null(value: float | None) -> None:
    assert cache_struct([stats("CRC", value, value)], 3)["actual_error"] is None


def test_statistics_of_another_run_are_not_believed() -> None:
    with pytest.raises(RuntimeError, match="cover 3 of 4 steps"):
        cache_struct([stats("CRC", 1.0, 1.0)], 4)


class Unknown(torch.nn.Module):
    """A network of a family that nobody knows."""

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        return timestep


def test_an_unknown_network_is_counted_and_left_as_it_was() -> None:
    network = Unknown()
    uncached = SenCacheConfig(policy="none", num_inference_steps=3)
    with cached([network], uncached, None, rows=2) as sources:
        (source,) = sources
        for time in (9.0, 9.0, 9.0, 9.0, 5.0):  # steps that bfloat16 rounds to one timestep
            network(timestep=torch.tensor([time, time]))
        with pytest.raises(RuntimeError, match="5 times in a run of 3 steps"):
            source()
        network(timestep=torch.tensor([5.0, 5.0]))  # two branches in each of three steps
        assert [sample.decisions for sample in source()] == ["CCC", "CCC"]
    assert not network._forward_pre_hooks


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
    apply_sencache(network, SenCacheConfig(policy="none", num_inference_steps=3))
    uncached = SenCacheConfig(policy="none", num_inference_steps=3)
    with pytest.raises(ValueError, match="already"), cached([network], uncached, None, rows=1):
        pass


def test_an_unknown_network_cannot_be_cached(profile: Any) -> None:
    with (
        pytest.raises(UserError, match=r"Unknown.*--cache\.policy none"),
        cached([Unknown()], SenCacheConfig(), profile, rows=1),
    ):
        pass
