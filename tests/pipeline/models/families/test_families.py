"""Every family's file: it is registered, complete, and agrees with the library."""

from __future__ import annotations

import dataclasses
import pickle
import pkgutil
import re
from importlib import import_module

import pytest

from pipeline.models import families
from pipeline.models.families.base import ModelFamily
from pipeline.models.registry import FAMILIES, MODELS, PIPELINES
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults
from sencache.families.registry import FAMILIES as KNOWN

EVERY = {known.family.name: known.family for known in PIPELINES.values()}
every_family = pytest.mark.parametrize("family", EVERY.values(), ids=EVERY.keys())
every_pipeline = pytest.mark.parametrize("known", PIPELINES.values(), ids=PIPELINES.keys())


def test_every_file_is_registered_with_pipelines_and_models_of_its_own_family() -> None:
    files = {
        module.name.removeprefix(f"{families.__name__}.")
        for module in pkgutil.walk_packages(families.__path__, f"{families.__name__}.")
        if not module.ispkg
    }
    assert set(FAMILIES) == files - {"base"}
    for name in FAMILIES:
        file = import_module(f"{families.__name__}.{name}")
        assert {known.family.name for known in file.PIPELINES} == {name.rpartition(".")[2]}
        assert all(spec.pipeline in file.PIPELINES for spec in file.MODELS)


def test_no_name_is_taken_twice() -> None:
    files = [import_module(f"{families.__name__}.{name}") for name in FAMILIES]
    assert len(MODELS) == sum(len(file.MODELS) for file in files)
    assert len(PIPELINES) == sum(len(file.PIPELINES) for file in files)


@every_pipeline
def test_a_pipeline_class_travels_to_actors(known: PipelineClass) -> None:
    assert pickle.loads(pickle.dumps(known)) == known


@every_pipeline
def test_a_pipeline_class_can_make_its_own_default_clip(known: PipelineClass) -> None:
    size = known.defaults
    assert not known.sizes.problem(size.width, size.height, size.num_frames)
    assert size.sampler in known.family.samplers


@every_pipeline
def test_texts_without_a_negative_prompt_are_those_of_distilled_guidance(
    known: PipelineClass,
) -> None:
    negative = [name for name in known.text_embeddings if name.startswith("negative")]
    assert bool(negative) != known.distilled_guidance


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


@every_family
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_precision_that_is_asked_for_is_the_network_s(family: ModelFamily, dtype: str) -> None:
    precision = family.precision(dtype)
    assert precision.get("transformer", precision["default"]) == dtype


VALUES = {each.name for each in dataclasses.fields(SamplingDefaults)}
VALUES |= {each.name for each in dataclasses.fields(SizeRules)}


@pytest.mark.parametrize(
    "known", [*PIPELINES.values(), *MODELS.values()], ids=lambda known: known.name
)
def test_no_value_lacks_a_source(known: PipelineClass | ModelSpec) -> None:
    assert known.sources.keys() - {"*"} <= VALUES
    assert "*" in known.sources or known.sources.keys() == VALUES
    assert all(re.search(r"\w+/\w|diffusers", source) for source in known.sources.values())
