from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from pipeline.dataset.struct_columns import CACHE_TYPE
from pipeline.engine.caching import cache_struct, cached
from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily
from pipeline.models.registry import MODELS
from pipeline.models.samplers import make_scheduler
from sencache import (
    SampleStats,
    SenCacheConfig,
    apply_sencache,
)
from sencache.extension import step_moves

EVERY_FAMILY = tuple({spec.family.name: spec.family for spec in MODELS.values()}.values())


def stats(decisions: str, predicted: float | None, actual: float | None) -> SampleStats:
    nfe = decisions.count("C")
    return SampleStats(
        "paper", "ab" * 8, nfe, len(decisions) - nfe, decisions, 2 * nfe, predicted, actual, 1
    )


def test_statistics_become_the_rows_struct() -> None:
    struct = cache_struct(stats("CRCCRCC", 1.0, None), 7)
    assert (struct["decisions"], struct["nfe"], struct["reused"]) == ("CRCCRCC", 5, 2)
    assert (struct["predicted_error"], struct["actual_error"]) == (1.0, None)
    assert set(struct) == {CACHE_TYPE.field(i).name for i in range(CACHE_TYPE.num_fields)}


def test_statistics_of_another_run_are_not_believed() -> None:
    with pytest.raises(RuntimeError, match="cover 3 of 4 steps"):
        cache_struct(stats("CRC", 1.0, 1.0), 4)


@pytest.mark.parametrize(
    ("family", "sampler"),
    [(family, name) for family in EVERY_FAMILY for name in family.samplers],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_sampler_but_the_random_one_can_be_planned(family: ModelFamily, sampler: str) -> None:
    scheduler = make_scheduler(sampler, family, {})
    scheduler.set_timesteps(10)  # more than any sampler's memory
    if sampler in family.random_samplers:
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
