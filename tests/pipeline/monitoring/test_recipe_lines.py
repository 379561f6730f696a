from __future__ import annotations

import io

from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.monitoring.recipe_lines import say_recipe


def said(**settings: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    fields = {"prompts": "p.txt", "output": "out", **settings}
    say_recipe(console, RunConfig.model_validate(fields))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_says_what_its_recipe_is_and_that_nothing_is_cached() -> None:
    text = said(recipe="distilled-4step")
    assert "Recipe distilled-4step (the embedded model, distilled here; Apache-2.0)" in text
    assert "4 steps, all of them computed, so there is no cache" in text
    assert "the run's own" not in text


def test_a_run_says_what_its_own_settings_replace() -> None:
    text = said(recipe="distilled-4step", sampling={"sigmas": [1.0, 0.5]})
    assert "  the run's own: sampling.sigmas 1,0.5, not 1,0.9,0.75,0.5\n" in text


def test_a_run_without_a_recipe_says_nothing_of_recipes() -> None:
    assert said() == ""
