from __future__ import annotations

from pathlib import Path

import pytest

from jobs.benchmarks.demo_model.captions import ATTRIBUTES, parse_caption
from pipeline.config.run_config import load_config
from pipeline.models.resolve import resolve_model
from sencache import QUALITY

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = load_config(["--config", str(path)])
    assert (config.cache.policy, config.cache.max_error) == (
        "planned",
        QUALITY["balanced"].max_error,
    )
    if config.model != "demo":
        assert resolve_model(config.model).location


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_keeps_the_sampling_of_the_model_s_authors(path: Path) -> None:
    """Above all their negative prompt, with which the models were tuned."""
    config = load_config(["--config", str(path)])
    assert config.sampling.model_dump(exclude_none=True) == {}


def test_the_demo_prompts_are_distinct_and_show_the_whole_vocabulary() -> None:
    captions = (CONFIGS / "demo-prompts.txt").read_text().splitlines()
    assert len(set(captions)) == len(captions) == 24
    parsed = [parse_caption(caption) for caption in captions]
    for name, words in ATTRIBUTES.items():
        assert {getattr(attributes, name) for attributes in parsed} == set(words)
