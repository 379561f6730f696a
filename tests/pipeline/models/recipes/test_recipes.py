"""Every recipe: its values have sources, fit the model, and leave no guidance to pay for."""

from __future__ import annotations

import re

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.adapters import HUB, SECOND, SHIPPED, SUFFIX
from pipeline.models.catalogue.saved_pipeline import HUB_ID
from pipeline.models.recipes import RECIPES, get_recipe, recipes_of
from pipeline.models.recipes.base import Recipe
from pipeline.models.registry import MODELS
from pipeline.models.samplers import check_sampler, check_takes_sigmas, sampler_name
from sencache.schedules.budget import FEW_STEPS

EACH = pytest.mark.parametrize(
    "recipe", RECIPES, ids=lambda recipe: f"{recipe.model}-{recipe.name}"
)


@EACH
def test_every_value_has_a_source_and_nothing_else_has(recipe: Recipe) -> None:
    values = set(recipe.sampling)
    values |= {name for name in ("adapters", "weights") if getattr(recipe, name)}
    assert set(recipe.sources) == values
    assert all(recipe.sources.values())
    assert recipe.adapters or recipe.weights  # else it is the model itself


@EACH
def test_its_settings_are_valid_and_its_sampler_and_size_fit_the_model(recipe: Recipe) -> None:
    config = RunConfig(prompts="p.txt", output="out", model=recipe.model, recipe=recipe.name)
    sampling, spec = config.sampling, MODELS[recipe.model]
    sampler = sampler_name(str(sampling.sampler), sampling.flow_shift)
    check_sampler(sampler, spec.family)
    if sampling.sigmas:
        check_takes_sigmas(sampler)
    own = spec.defaults
    size = (
        sampling.width or own.width,
        sampling.height or own.height,
        sampling.num_frames or own.num_frames,
    )
    assert spec.sizes.problem(*size) == ""
    assert 1 <= recipe.steps <= FEW_STEPS
    assert config.cache.policy == "none"


@EACH
def test_guidance_is_off_where_it_would_cost_a_second_evaluation(recipe: Recipe) -> None:
    spec = MODELS[recipe.model]
    assert (recipe.sampling["guidance_scale"] <= 1.0) != spec.pipeline.distilled_guidance


@EACH
def test_each_network_of_the_model_has_an_adapter(recipe: Recipe) -> None:
    second = [uri for uri in recipe.adapters if SECOND in uri]
    if recipe.adapters:
        assert len(second) == MODELS[recipe.model].two_networks
        assert len(recipe.adapters) == 1 + len(second)
    for uri in recipe.adapters:
        assert uri.startswith((HUB, SHIPPED))
        assert uri.removesuffix(SECOND).endswith(SUFFIX)


@EACH
def test_weights_are_a_repository_at_a_commit(recipe: Recipe) -> None:
    if recipe.weights:
        match = HUB_ID.fullmatch(recipe.weights)
        assert match is not None
        assert re.fullmatch("[0-9a-f]{40}", match["revision"])


@pytest.mark.parametrize("name", ["lightning-4step", "lightx2v-4step"])
def test_four_steps_of_wan_are_equal_parts_under_a_shift_of_five(name: str) -> None:
    shifted = [5 * part / (1 + 4 * part) for part in (1.0, 0.75, 0.5, 0.25)]
    assert get_recipe("wan2.2-t2v-a14b", name).sampling["sigmas"] == pytest.approx(shifted)


def test_a_model_s_recipes_have_names_of_their_own() -> None:
    names = [(recipe.model, recipe.name) for recipe in RECIPES]
    assert len(set(names)) == len(names)
    assert {recipe.model for recipe in RECIPES} <= MODELS.keys()
    assert recipes_of("demo")
    assert recipes_of("cogvideox-2b") == ()


@pytest.mark.parametrize(
    ("model", "name", "why"),
    [
        ("wan2.2-t2v-a14b", "lightning-4steps", "did you mean lightning-4step? it has lightning-"),
        ("wan2.1-t2v-14b", "lightning-4step", "it is a recipe of wan2.2-t2v-a14b"),
        ("cogvideox-2b", "turbo", "it has none; demo, wan2.2-t2v-a14b"),
    ],
)
def test_a_recipe_that_a_model_has_not_is_refused_with_those_it_has(
    model: str, name: str, why: str
) -> None:
    with pytest.raises(UserError, match=re.escape(f"--recipe {name}: no recipe of {model}; {why}")):
        get_recipe(model, name)
