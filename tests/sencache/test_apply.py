from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig
from diffusers.hooks.hooks import HookRegistry, ModelHook

from sencache import (
    ProfileError,
    ProfileWarning,
    SenCacheConfig,
    SenCacheHandle,
    apply_sencache,
    remove_sencache,
)
from tests.sencache.support.toys import (
    CountRows,
    embeddings,
    make_profile,
    sample,
    tiny_pipe,
    tiny_wan,
)

INPUTS = (torch.ones(1, 4, 2, 4, 4), torch.tensor([500.0]), embeddings([1]))


@torch.no_grad()
def test_removing_restores_the_transformer() -> None:
    model = tiny_wan()
    before, wanted = dict(vars(model)), model(*INPUTS).sample
    apply_sencache(model, SenCacheConfig(num_inference_steps=5), make_profile())
    assert model.is_cache_enabled
    remove_sencache(model)
    assert not model.is_cache_enabled
    assert model.forward.__func__ is type(model).forward
    assert set(vars(model)) - set(before) == {"_diffusers_hook"}
    assert HookRegistry.check_if_exists_or_initialize(model).hooks == {}
    assert torch.equal(model(*INPUTS).sample, wanted)
    remove_sencache(model)  # again: nothing to do
    copy.deepcopy(model)


def test_removing_keeps_a_forward_that_is_not_ours() -> None:
    model = tiny_wan()
    theirs = model.forward
    model.forward = lambda *args, **kwargs: theirs(*args, **kwargs)
    replaced = model.forward
    apply_sencache(model, SenCacheConfig(policy="none"))
    remove_sencache(model)
    assert model.forward is replaced


def test_applying_twice_is_refused_and_leaves_the_first_in_place() -> None:
    model = tiny_wan()
    config = SenCacheConfig(policy="none")
    apply_sencache(model, config)
    with pytest.raises(ValueError, match=r"already applied \(SenCacheConfig\)"):
        apply_sencache(model, SenCacheConfig(policy="none", max_reuse=9))
    assert model._cache_config is config
    remove_sencache(model)
    apply_sencache(model, config)


def test_no_two_caches_on_one_transformer() -> None:
    model = tiny_wan()
    apply_sencache(model, SenCacheConfig(policy="none"))
    with pytest.raises(ValueError, match="already been enabled"):
        model.enable_cache(FirstBlockCacheConfig())
    remove_sencache(model)
    model.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"FirstBlockCacheConfig.*disable_cache"):
        apply_sencache(model, SenCacheConfig(policy="none"))


def test_a_policy_that_reuses_needs_a_profile() -> None:
    model = tiny_wan()
    with pytest.raises(ValueError, match=r"needs a SensitivityProfile.*sencache\.calibrate"):
        apply_sencache(model, SenCacheConfig())
    apply_sencache(model, SenCacheConfig(epsilon=0.0))


def test_a_profile_that_does_not_fit_is_refused_or_warned_of() -> None:
    model = tiny_wan()
    with pytest.raises(ProfileError, match="family 'ltx' but the run has 'wan'"):
        apply_sencache(model, SenCacheConfig(), make_profile(family="ltx"))
    own = SenCacheConfig(uncond_verdict="own")
    with pytest.raises(ProfileError, match="no branch 'uncond'"):
        apply_sencache(model, own, make_profile(branches=("cond",)))
    assert not model.is_cache_enabled
    with pytest.warns(ProfileWarning, match="bfloat16"):
        apply_sencache(model, SenCacheConfig(), make_profile(dtype="bfloat16"))


@pytest.mark.parametrize("fact", [{"model": "big"}, {"revision": "2"}])
def test_a_profile_of_other_weights_is_refused(fact: dict[str, Any]) -> None:
    model = tiny_wan()
    with pytest.raises(ProfileError, match=next(iter(fact))):
        apply_sencache(model, SenCacheConfig(), make_profile(), **fact)
    assert not model.is_cache_enabled


@pytest.mark.parametrize("fact", [{"sampler": "UniPCMultistepScheduler"}, {"shift": 5.0}])
def test_a_profile_of_other_sampling_is_warned_of(fact: dict[str, Any]) -> None:
    with pytest.warns(ProfileWarning, match=next(iter(fact))):
        apply_sencache(tiny_wan(), SenCacheConfig(), make_profile(), **fact)


def test_the_run_is_compared_with_the_profile_once() -> None:
    pipe = tiny_pipe()
    profile = make_profile(num_inference_steps=50, branches=("cond",))
    apply_sencache(pipe.transformer, SenCacheConfig(), profile)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            sample(pipe, [0], steps=3)
    texts = [str(each.message) for each in caught if each.category is ProfileWarning]
    assert len(texts) == 2
    assert "num_inference_steps 50 but the run has 3" in texts[0]
    assert "measured without guidance" in texts[1]


class Replacing(ModelHook):
    """Another hook that stands in for the forward."""

    def new_forward(self, module: torch.nn.Module, *args: object, **kwargs: object) -> object:
        return self.fn_ref.original_forward(*args, **kwargs)


def test_removing_from_under_another_hook_is_refused() -> None:
    model = tiny_wan()
    apply_sencache(model, SenCacheConfig(policy="none"))
    registry = HookRegistry.check_if_exists_or_initialize(model)
    registry.register_hook(Replacing(), "later")
    with pytest.raises(RuntimeError, match="later"):
        remove_sencache(model)
    registry.remove_hook("later")
    remove_sencache(model)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("offload_first", [True, False])
def test_offloading_keeps_the_cache_over_calls_in_either_order(offload_first: bool) -> None:
    """enable_model_cpu_offload hooks anew at the end of each call of the pipeline."""
    pipe = tiny_pipe()
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=1)
    steps = [lambda: pipe.enable_model_cpu_offload(device="cpu")]
    steps.append(lambda: handles.append(apply_sencache(pipe.transformer, config, make_profile())))
    handles: list[SenCacheHandle] = []
    for step in steps if offload_first else reversed(steps):
        step()
    counter = CountRows(pipe.transformer.patch_embedding)
    for seed in (1, 2):
        sample(pipe, [seed], steps=6)
        assert [stats.decisions for stats in handles[0].stats()] == ["CRCRCC"]
        assert len(counter.rows) == seed * 8
    counter.remove()
    assert hasattr(pipe.transformer, "_hf_hook")
    remove_sencache(pipe.transformer)
    assert hasattr(pipe.transformer, "_hf_hook")
    counter = CountRows(pipe.transformer.patch_embedding)
    sample(pipe, [3], steps=6)
    assert len(counter.rows) == 12
    pipe.remove_all_hooks()
    assert pipe.transformer.forward.__func__ is type(pipe.transformer).forward
