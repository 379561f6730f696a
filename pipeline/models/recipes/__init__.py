"""Recipes: how distilled versions of the models are sampled, by their `--recipe` name.

One file per family holds its recipes, each a frozen object (`base.py`). Nothing here loads a model
or merges settings: `pipeline.config.recipe` does that. Importing this package is cheap.
"""

from __future__ import annotations

import difflib

from pipeline.errors import UserError
from pipeline.models.recipes.base import Recipe
from pipeline.models.recipes.hunyuan_video import RECIPES as OF_HUNYUAN_VIDEO
from pipeline.models.recipes.wan import RECIPES as OF_WAN

RECIPES: tuple[Recipe, ...] = (*OF_WAN, *OF_HUNYUAN_VIDEO)


def recipes_of(model: str) -> tuple[Recipe, ...]:
    """The recipes of a model of the registry."""
    return tuple(recipe for recipe in RECIPES if recipe.model == model)


def get_recipe(model: str, name: str) -> Recipe:
    """Look a recipe up.

    Args:
        model: Registry name of the model.
        name: Name of the recipe.

    Raises:
        UserError: The model has no such recipe; the text names those that it has, or the models
            that have one.
    """
    own = {recipe.name: recipe for recipe in recipes_of(model)}
    if name in own:
        return own[name]
    others = [recipe.model for recipe in RECIPES if recipe.name == name]
    if others:
        why = f"it is a recipe of {' and '.join(others)}"
    elif own:
        close = difflib.get_close_matches(name.lower(), own, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        why = f"{hint}it has {', '.join(own)}"
    else:
        models = dict.fromkeys(recipe.model for recipe in RECIPES)
        why = f"it has none; {', '.join(models)} have recipes"
    raise UserError(f"--recipe {name}: no recipe of {model}; {why}")
