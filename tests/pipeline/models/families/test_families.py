"""Every family's file: it is registered, complete, and agrees with the library."""

from __future__ import annotations

import pickle
import pkgutil
from importlib import import_module

import pytest

from pipeline.models import families
from pipeline.models.families.base import ModelFamily
from pipeline.models.registry import FAMILIES, MODELS
from sencache.families.registry import FAMILIES as KNOWN

EVERY = {spec.family.name: spec.family for spec in MODELS.values()}
every_family = pytest.mark.parametrize("family", EVERY.values(), ids=EVERY.keys())


def test_every_file_is_registered_with_models_of_its_own_family() -> None:
    files = {module.name for module in pkgutil.iter_modules(families.__path__)}
    assert set(FAMILIES) == files - {"base"}
    for name in FAMILIES:
        specs = import_module(f"{families.__name__}.{name}").MODELS
        assert {spec.family.name for spec in specs} == {name}
    assert len(MODELS) == sum(
        len(import_module(f"{families.__name__}.{name}").MODELS) for name in FAMILIES
    )


@every_family
def test_the_library_knows_the_family(family: ModelFamily) -> None:
    assert family.name in {known.name for known in KNOWN}


@every_family
def test_a_family_travels_to_actors(family: ModelFamily) -> None:
    assert pickle.loads(pickle.dumps(family)) == family


@every_family
def test_what_is_said_of_samplers_and_backends_fits_together(family: ModelFamily) -> None:
    assert set(family.random_samplers) <= set(family.samplers)
    assert ("xfuser" in family.splits) == bool(family.xfuser_network)
    assert all(kinds[0] == "ulysses" for kinds in family.splits.values())
    if family.joint is not None:
        assert family.splits == {"context_parallel": ("ulysses",)}
    negative = [name for name in family.text_embeddings if name.startswith("negative")]
    assert bool(negative) != family.distilled_guidance


@every_family
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_precision_that_is_asked_for_is_the_network_s(family: ModelFamily, dtype: str) -> None:
    precision = family.precision(dtype)
    assert precision.get("transformer", precision["default"]) == dtype
