"""The library as it is met in a notebook: names, paths, summaries, and what mistakes are told."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sencache
from sencache import (
    PRESETS,
    QUALITY,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    calibrate,
    remove_sencache,
)
from sencache.profiles.prior import prior_profile
from sencache.schedules.drift import OutputDrift
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    TinyPipeline,
    fitting_profile,
    tiny_param,
)
from tests.sencache.support.toys import make_profile, sample, tiny_pipe


def with_drift(profile: SensitivityProfile, steps: int = 12) -> SensitivityProfile:
    """The profile with a drift that grows with the distance of two steps."""
    taus = tuple(1 - index / steps for index in range(steps))
    distances = tuple(tuple((s - t) ** 2 for t in taus) for s in taus)
    return dataclasses.replace(profile, drift=OutputDrift(taus, (1.0,) * steps, distances))


@pytest.mark.parametrize("as_name", [str, Path])
@pytest.mark.parametrize("name", ["balanced", "wan2.1-fast"])
def test_settings_may_be_named(as_name: Callable[[str], Any], name: str) -> None:
    cache = apply_sencache(tiny_pipe(), as_name(name), with_drift(make_profile()))
    assert cache.config == {**QUALITY, **PRESETS}[name]


def test_an_unknown_name_is_told_with_all_that_exist() -> None:
    with pytest.raises(ValueError, match="'balancd'") as told:
        apply_sencache(tiny_pipe(), "balancd")
    assert all(name in str(told.value) for name in (*QUALITY, *PRESETS))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("tiny", [tiny_param(tiny) for tiny in PIPELINES])
@pytest.mark.parametrize("name", ["balanced", "ltx-fast"])
def test_nothing_but_a_name_is_needed_on_any_pipeline(tiny: TinyPipeline, name: str) -> None:
    """The prior stands in, and the cache says so."""
    pipe = tiny.make()
    cache = apply_sencache(pipe, name)
    kind = "v" if "cogvideox" in tiny.name else "flow"
    assert cache.profile is prior_profile(kind)
    assert f"prior for {kind} prediction" in repr(cache)
    if name == "balanced" and tiny.name == "cogvideox-i2v":  # its sampler is random
        with pytest.raises(ValueError, match="cannot be told"):
            tiny.run(pipe, [0], steps=20)
        return
    tiny.run(pipe, [0], steps=20)
    (sample_stats,) = cache.stats()
    assert len(sample_stats.decisions) == 20
    assert sample_stats.reused > 0
    assert f"prior for {kind} prediction" in str(cache.summary())
    if name == "balanced":
        assert sample_stats.promised_error is not None
        assert 0 < sample_stats.promised_error <= cache.config.error_limit


def test_no_prior_stands_in_where_what_the_model_predicts_is_not_known() -> None:
    with pytest.raises(ValueError, match="needs a SensitivityProfile"):
        apply_sencache(tiny_pipe().transformer, SenCacheConfig())
    with pytest.raises(ValueError, match=r"OfficialProfile\.from_npz"):
        apply_sencache(tiny_pipe(), "official-wan")


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_profile_may_be_the_path_of_its_file(
    as_path: Callable[[Path], Any], tmp_path: Path
) -> None:
    path, profile = tmp_path / "profile.json", with_drift(make_profile())
    profile.save(path)
    pipe = tiny_pipe()
    cache = apply_sencache(pipe, "fast", as_path(path))
    assert cache.profile == profile
    assert str(path) in repr(cache)
    assert profile.hash in repr(cache)
    sample(pipe, [1])
    assert "R" in cache.stats()[0].decisions


def test_paths_stand_for_the_names_of_models() -> None:
    profile = make_profile()
    for model in ("tiny", Path("tiny")):
        pipe = tiny_pipe()
        assert apply_sencache(pipe, SenCacheConfig(), profile, model=model).profile is profile
    with pytest.raises(sencache.ProfileError, match="'big'"):
        apply_sencache(tiny_pipe(), SenCacheConfig(), profile, model=Path("big"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ({"policy": "none"},),
            TypeError,
            r"type dict; .*SenCacheConfig\(\*\*settings\)",
        ),
        ((3,), TypeError, "config is of type int; .*SenCacheConfig"),
        ((make_profile(),), TypeError, "config is of type SensitivityProfile"),
        (("high", SenCacheConfig()), TypeError, "profile is SenCacheConfig.*SensitivityProfile"),
        (("high", "wan"), TypeError, r"profile is 'wan'.*\.json"),
        ((SenCacheConfig,), TypeError, "config is of type type; .*; call the class"),
        (("wan.json",), ValueError, r'apply_sencache\(pipe, "balanced", profile\)'),
        (("prior",), ValueError, r'apply_sencache\(pipe, "balanced", profile\)'),
        (("high", "prior"), TypeError, "profile is 'prior'; leave profile out"),
        (("high", "own"), TypeError, r"profile is 'own'; .*sencache\.calibrate.*leave profile out"),
        (("high", "shipped"), TypeError, r"profile is 'shipped'; .*leave profile out"),
        (("high", "gone.json"), FileNotFoundError, r"cannot be read \(No such file.*'gone\.json'"),
        (("high", Path("/")), IsADirectoryError, r"cannot be read \(Is a directory.*'/'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    pipe = tiny_pipe()
    with pytest.raises(error, match=message) as told:
        apply_sencache(pipe, *arguments)
    assert "\n" not in str(told.value)
    assert not pipe.transformer.is_cache_enabled


@pytest.mark.parametrize("profile", [None, with_drift(make_profile()), "gone.json"])
def test_plans_of_a_transformer_alone_need_its_pipeline(profile: Any) -> None:
    model = tiny_pipe().transformer
    with pytest.raises(ValueError, match="give apply_sencache the pipeline, not its transformer"):
        apply_sencache(model, "balanced", profile)
    assert not model.is_cache_enabled


def test_a_missing_profile_is_told_with_the_limit_that_needs_it() -> None:
    for config, limit in (
        (QUALITY["fast"], "policy='planned' with max_error=0.02 needs"),
        (SenCacheConfig(policy="planned", budget=0.3), "policy='planned' with budget=0.3 needs"),
        (SenCacheConfig(), "policy='paper' with epsilon=0.1 needs"),
    ):
        with pytest.raises(ValueError, match=limit):
            config.identity(None)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(TypeError, match="revision is of type int; it must be a name"):
        apply_sencache(tiny_pipe(), "fast", with_drift(make_profile()), revision=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompts": 3}, "prompts is of type int; pass a list of captions"),
        ({"seeds": 3}, r"seeds is 3; pass one seed per clip, such as range\(8\)"),
        ({"call_kwargs": 3}, "call_kwargs is 3; it must be a dict or None"),
    ],
)
def test_calibration_tells_which_argument_is_of_another_kind(
    wrong: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"prompts": ["a cat"], "progress": False} | wrong
    with pytest.raises(ValueError, match=message):
        calibrate(tiny_pipe(), **arguments)


@pytest.mark.parametrize("target", ["a pipeline", None, 3, {}, type(tiny_pipe)])
@pytest.mark.parametrize("config", ["lossless", "balanced"])
def test_what_is_no_pipeline_is_told_in_one_line(target: Any, config: str) -> None:
    with pytest.raises(ValueError, match=r"pass a .*pipeline") as told:
        apply_sencache(target, config, with_drift(make_profile()))
    assert "\n" not in str(told.value)


def test_a_class_is_no_pipeline() -> None:
    with pytest.raises(ValueError, match=r"WanPipeline is a class.*from_pretrained"):
        apply_sencache(type(tiny_pipe()), "lossless")


@pytest.mark.parametrize("target", ["a pipeline", None, 3])
def test_calibration_tells_what_is_no_pipeline(target: Any) -> None:
    with pytest.raises(ValueError, match=r"pass a .*pipeline"):
        calibrate(target, ["a cat"], progress=False)


@pytest.mark.parametrize("name", ["output_type", "generator", "prompt"])
def test_calibration_tells_which_arguments_it_sets_itself(name: str) -> None:
    with pytest.raises(ValueError, match=f"call_kwargs has '{name}'"):
        calibrate(tiny_pipe(), ["a cat"], call_kwargs={name: "latent"}, progress=False)


def test_a_summary_has_five_lines_before_and_after_a_call() -> None:
    pipe = tiny_pipe()
    profile = with_drift(make_profile())
    config = SenCacheConfig(policy="planned", budget=0.34)
    cache = apply_sencache(pipe, config, profile)
    assert len(str(cache.summary()).splitlines()) == 5
    assert "no call yet" in str(cache.summary())
    sample(pipe, [1, 2], steps=12)
    summary = cache.summary()
    assert repr(summary) == str(summary)
    steps, nfe, reused, error, used = str(summary).splitlines()
    assert "12 for 2 samples" in steps
    assert 'policy "planned"' in steps
    assert "4 in the mean per sample" in nfe  # 34 % of 12
    assert "8 rows through the network" in nfe  # both branches of guidance
    assert "67% (16 of 24 steps)" in reused
    promised = cache.stats()[0].promised_error
    assert promised is not None
    assert promised > 0
    assert f"{promised:.2%} promised" in error
    assert "rms predicted for the guided output; " in error
    assert "measured for the conditional branch, another quantity" in error
    assert profile.hash in used
    assert "given" in used
    assert (summary.nfe, summary.reuse_ratio) == (4, 16 / 24)


def test_a_summary_of_a_run_without_reuse_promises_nothing() -> None:
    pipe = tiny_pipe()
    cache = apply_sencache(pipe, "lossless")
    sample(pipe, [1], steps=5)
    assert "none: every step was computed" in str(cache.summary())
    assert str(cache.summary()).splitlines()[-1].split() == ["profile:", "none"]


def test_reprs_are_short() -> None:
    profile = with_drift(make_profile([1.0] * 50), 50)
    cache = apply_sencache(tiny_pipe(), SenCacheConfig(), profile)
    for each in (profile, profile.drift, cache):
        assert len(repr(each)) < 200
        assert "\n" not in repr(each)
    assert profile.hash in repr(profile)


@pytest.mark.parametrize("tiny", [tiny_param(tiny, by_network=True) for tiny in PIPELINES])
@pytest.mark.parametrize("config", [SenCacheConfig(), SenCacheConfig(policy="none")])
def test_a_cached_pipeline_is_not_copied_but_an_uncached_one_is(
    tiny: TinyPipeline, config: SenCacheConfig
) -> None:
    pipe = tiny.make()
    apply_sencache(pipe, config, fitting_profile(pipe))
    for target in (pipe, pipe.transformer):
        with pytest.raises(TypeError, match="remove_sencache"):
            copy.deepcopy(target)
    remove_sencache(pipe)
    twin = copy.deepcopy(pipe)
    wanted = tiny.run(pipe, [0], steps=2)
    with torch.no_grad():
        for name in tiny.networks:
            for weight in getattr(pipe, name).parameters():
                weight.zero_()
    assert torch.equal(tiny.run(twin, [0], steps=2), wanted)


def test_a_block_of_a_cached_network_is_not_copied_either() -> None:
    pipe = tiny_pipe()
    apply_sencache(pipe, SenCacheConfig(reuse="residual"), make_profile())
    with pytest.raises(TypeError, match="remove_sencache"):
        copy.deepcopy(pipe.transformer.blocks[0])
