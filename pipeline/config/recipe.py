"""A recipe under the settings of a run: what it fills in, and what the user's own settings replace.

Defaults < recipe < YAML file < flags. A recipe never changes a setting that the user gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.sections import SamplingConfig
from pipeline.errors import UserError
from pipeline.models.recipes import get_recipe
from pipeline.models.recipes.base import Recipe
from pipeline.wording import counted

_LEVELS = {"sigmas", "num_inference_steps", "flow_shift"}
"""Settings that say together at which noise levels a clip is sampled. Whoever sets one sets all."""


def with_recipe(given: Mapping[str, Any], default_model: str) -> dict[str, Any]:
    """Fill the recipe of a run into its settings; nothing if it has none.

    Works on settings as they are given, before their types are checked. Filling a result again
    does not change it, so a stored configuration reads back as it was.

    Args:
        given: The settings, nested as in a YAML file.
        default_model: The model of a run that names none.

    Raises:
        UserError: There is no such recipe, or a cache is asked for.
    """
    filled = dict(given)
    name = filled.get("recipe")
    if not isinstance(name, str) or not name:
        return filled
    recipe = get_recipe(str(filled.get("model") or default_model), name)
    sampling = _plain(filled.get("sampling"))
    filled["sampling"] = _own_sampling(recipe, sampling) | sampling
    engine = _plain(filled.get("engine"))
    filled["engine"] = engine | {"adapters": engine.get("adapters") or list(recipe.adapters)}
    filled["model"] = filled.get("model") or default_model
    filled["model_path"] = filled.get("model_path") or recipe.weights
    filled["cache"] = _no_cache(recipe, _plain(filled.get("cache")))
    return filled


def replaced(
    recipe: Recipe, sampling: SamplingConfig, adapters: Sequence[str], model_path: str
) -> list[str]:
    """Say which values of a recipe the settings of a run replace.

    Args:
        recipe: The recipe of the run.
        sampling: The run's sampling settings.
        adapters: Its adapters.
        model_path: Its weights.

    Returns:
        A text for each value.
    """
    own = sampling.model_dump(exclude_none=True)
    kept = _own_sampling(recipe, own)
    found = [
        f"sampling.{name} {_shown(own[name]) if name in own else 'of the sampler'}, "
        f"not {_shown(value)}"
        for name, value in recipe.sampling.items()
        if name not in kept or _shown(own.get(name)) != _shown(value)
    ]
    if recipe.adapters and tuple(adapters) != recipe.adapters:
        found.append(f"engine.adapters {', '.join(adapters)}, not its own")
    if recipe.weights and model_path != recipe.weights:
        found.append(f"model_path {model_path}, not {recipe.weights}")
    return found


def _own_sampling(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's sampling settings, without those that the given ones rule out."""
    own = {name: _listed(value) for name, value in recipe.sampling.items()}
    rivals = _LEVELS & given.keys() - own.keys()
    if str(given.get("num_inference_steps")) == str(recipe.steps):
        rivals.discard("num_inference_steps")  # it says what the listed levels say
    return {name: value for name, value in own.items() if not (rivals and name in _LEVELS)}


def _no_cache(recipe: Recipe, cache: dict[str, Any]) -> dict[str, Any]:
    """The caching settings of a run with a recipe, which caches nothing."""
    asked = [name for name in cache if name != "policy"]
    if not cache or cache.get("policy") == "none":
        return cache | {"policy": "none"}
    names = ", ".join(f"cache.{name}" for name in asked or cache)
    raise UserError(
        f"--recipe {recipe.name} leaves {counted(recipe.steps, 'step')}, and all of them are "
        f"computed: there is nothing to cache. Leave {names} out, or the recipe"
    )


def _plain(section: Any) -> dict[str, Any]:
    """The settings of a section that are given."""
    if section is None:
        return {}
    values = section if isinstance(section, Mapping) else section.model_dump(exclude_unset=True)
    return {name: value for name, value in values.items() if value is not None}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float | int) else str(value)
