"""A recipe under the user's settings: what it fills in, and what they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.recipe import replaced
from pipeline.config.run_config import RunConfig, load_config
from pipeline.errors import UserError
from pipeline.models.recipes import get_recipe

NEEDED = ["--prompts", "p.csv", "--output", "out"]
LIGHTNING = ["--model", "wan2.2-t2v-a14b", "--recipe", "lightning-4step"]
FAST_HUNYUAN = ["--model", "hunyuanvideo", "--recipe", "fasthunyuan-6step"]


def load(*argv: str) -> RunConfig:
    return load_config([*NEEDED, *argv])


def own_of(recipe: str, config: RunConfig) -> list[str]:
    found = get_recipe(config.model, recipe)
    return replaced(found, config.sampling, config.engine.adapters, config.model_path)


def test_a_recipe_fills_in_its_settings_and_turns_the_cache_off() -> None:
    config = load(*LIGHTNING)
    recipe = get_recipe("wan2.2-t2v-a14b", "lightning-4step")
    assert config.sampling.sigmas == list(recipe.sampling["sigmas"])
    assert config.sampling.guidance_scale == 1.0
    assert tuple(config.engine.adapters) == recipe.adapters
    assert config.cache.policy == "none"
    assert own_of("lightning-4step", config) == []
    assert load(*FAST_HUNYUAN).model_path.startswith("FastVideo/FastHunyuan-diffusers@")


def test_the_default_model_has_recipes_too() -> None:
    assert load("--recipe", "distilled-4step") == load(
        "--recipe", "distilled-4step", "--model", "demo"
    )


def test_a_stored_configuration_reads_back_as_it_was() -> None:
    for flags in (LIGHTNING, FAST_HUNYUAN, [*LIGHTNING, "--sampling.num-inference-steps", "8"]):
        config = load(*flags)
        assert RunConfig.model_validate(config.to_dict()) == config


def test_settings_replace_a_recipe_s_and_this_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("sampling: {guidance_scale: 2.5}\nengine: {adapters: [mine.safetensors]}")
    config = load(*LIGHTNING, "--config", str(path), "--sampling.width", "832")
    assert config.sampling.guidance_scale == 2.5
    assert config.engine.adapters == ["mine.safetensors"]
    assert own_of("lightning-4step", config) == [
        "sampling.guidance_scale 2.5, not 1",
        "engine.adapters mine.safetensors, not its own",
    ]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (["--sampling.num-inference-steps", "8"], {"num_inference_steps": 8}),
        (["--sampling.flow-shift", "3"], {"flow_shift": 3.0}),
        (["--sampling.sigmas", "1,0.5"], {"sigmas": [1.0, 0.5]}),
        (
            ["--sampling.num-inference-steps", "4"],
            {"num_inference_steps": 4, "sigmas": [1.0, 0.9375, 0.8333333, 0.625]},
        ),
    ],
)
def test_noise_levels_are_the_user_s_or_the_recipe_s_and_never_a_mixture(
    flags: list[str], left: dict[str, Any]
) -> None:
    config = load(*LIGHTNING, *flags)
    names = ("sigmas", "num_inference_steps", "flow_shift")
    found = {name: getattr(config.sampling, name) for name in names}
    assert {name: value for name, value in found.items() if value is not None} == left
    kept = left.get("sigmas") == [1.0, 0.9375, 0.8333333, 0.625]
    said = own_of("lightning-4step", config)
    assert (said == []) == kept


def test_listed_levels_replace_the_steps_and_the_shift_of_a_recipe() -> None:
    sampling = load(*FAST_HUNYUAN, "--sampling.sigmas", "1,0.5").sampling
    assert (sampling.num_inference_steps, sampling.flow_shift) == (None, None)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--cache.quality", "balanced"], "cache.quality"),
        (["--cache.budget=0.5"], "cache.budget"),
        (["--cache.policy", "paper"], "cache.policy"),
    ],
)
def test_a_cache_beside_a_recipe_is_refused_in_one_line(flags: list[str], named: str) -> None:
    with pytest.raises(UserError, match=rf"all of them are computed.*Leave {named} out") as caught:
        load(*LIGHTNING, *flags)
    assert "\n" not in str(caught.value)


def test_saying_that_there_is_no_cache_goes_with_a_recipe() -> None:
    assert load(*LIGHTNING, "--cache.policy", "none").cache.policy == "none"


def test_an_unknown_recipe_is_refused_by_the_command_line() -> None:
    with pytest.raises(UserError, match="--recipe nothing: no recipe of demo; it has distilled-4"):
        load("--recipe", "nothing")
