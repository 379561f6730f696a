"""What a run says of the recipe that it samples with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.config.recipe import replaced
from pipeline.models.recipes import get_recipe
from pipeline.monitoring.console import say
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.config.run_config import RunConfig


def say_recipe(console: Console, config: RunConfig) -> None:
    """Say what the recipe of a run is, that it caches nothing, and what settings replace of it.

    Args:
        console: Prints it.
        config: The run's settings; without a recipe nothing is printed.
    """
    if not config.recipe:
        return
    recipe = get_recipe(config.model, config.recipe)
    say(
        console,
        f"Recipe {recipe.name} ({recipe.about}; {recipe.licence}): "
        f"{counted(recipe.steps, 'step')}, all of them computed, so there is no cache",
    )
    adapters, path = config.engine.adapters, config.model_path
    for text in replaced(recipe, config.sampling, adapters, path):
        say(console, f"  the run's own: {text}")
