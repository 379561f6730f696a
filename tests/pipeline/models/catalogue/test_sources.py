"""No setting of a model lacks a source, and the documentation shows them as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.models.catalogue.sources import sources_table, values_of
from pipeline.models.registry import MODELS, PIPELINES
from pipeline.models.spec import ModelSpec, PipelineClass

DOCUMENT = Path(__file__).parents[4] / "docs" / "models.md"
EVERY = [*MODELS.values(), *PIPELINES.values()]


@pytest.mark.parametrize("known", EVERY, ids=lambda known: known.name)
def test_every_value_has_a_source(known: ModelSpec | PipelineClass) -> None:
    for name in values_of(known):
        assert known.sources.get(name) or known.sources.get("*"), name


def test_the_documentation_has_the_table_of_the_registry() -> None:
    assert sources_table() in DOCUMENT.read_text()
