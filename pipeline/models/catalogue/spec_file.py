"""A model described by its user: a YAML file, or an object of an installed Python package.

For what cannot be read from a saved pipeline: a class that is in no registry, a network that the
cache does not know. Code is imported only where the user names its module; never from a model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from pipeline.config.yaml_file import read_yaml
from pipeline.errors import UserError
from pipeline.models.catalogue.description import (
    ConditionDescription,
    Constant,
    ModelDescription,
    NetworkDescription,
)
from pipeline.models.families.base import ModelFamily
from pipeline.models.registry import PIPELINES
from pipeline.models.samplers import EULER
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import (
    STANDARD_ARGUMENTS,
    ModelSpec,
    PipelineClass,
    SamplingDefaults,
    as_given,
)
from pipeline.prompts.condition_columns import ConditionColumn, MediaCondition
from pipeline.requests.sample_request import SampleRequest
from pipeline.wording import a_kind_of
from sencache import Family


@dataclasses.dataclass(frozen=True, slots=True)
class _Constants:
    """Arguments of a call, and constant ones beside them."""

    before: Callable[[SampleRequest], dict[str, Any]]
    constants: tuple[tuple[str, Constant], ...]

    def __call__(self, request: SampleRequest) -> dict[str, Any]:
        return {**self.before(request), **dict(self.constants)}


@dataclasses.dataclass(frozen=True)
class GivenModel:
    """What a user describes: a class, and what differs from the models of that class.

    Attributes:
        pipeline: The class.
        changes: Fields of a `ModelSpec` that are given.
        defaults: Fields of its `SamplingDefaults` that are given.
        sizes: Fields of its `SizeRules` that are given.
        name: Name in rows, "" for the weights' own.
        spec: The whole model, where a Python object is given.
    """

    pipeline: PipelineClass
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)
    name: str = ""
    spec: ModelSpec | None = None

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """Return a model with what is given in place of what was read."""
        return dataclasses.replace(
            spec,
            defaults=dataclasses.replace(spec.defaults, **self.defaults),
            own_sizes=dataclasses.replace(spec.sizes, **self.sizes),
            **self.changes,
        )


def given_model(where: str) -> GivenModel:
    """Read a description.

    Args:
        where: A YAML file (any URI), or `module:attribute`, which names a `ModelSpec` or a
            `PipelineClass` of an installed package.

    Raises:
        UserError: It is wrong; the text names the file and the field.
    """
    if _is_object(where):
        return _given_object(where)
    try:
        described = ModelDescription.model_validate(read_yaml(where, ("sizes", "defaults")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"--model-spec {where}: {field}: {first['msg']}") from None
    return _from_file(described, where)


def _is_object(where: str) -> bool:
    module, colon, attribute = where.partition(":")
    names = [*module.split("."), attribute]
    return bool(colon) and all(name.isidentifier() for name in names)


def _given_object(where: str) -> GivenModel:
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--model-spec {where}: {error}") from error
    if isinstance(found, ModelSpec):
        return GivenModel(found.pipeline, spec=found)
    if isinstance(found, PipelineClass):
        return GivenModel(found)
    raise UserError(
        f"--model-spec {where} is {a_kind_of(found)}: give a ModelSpec or a PipelineClass"
    )


def _from_file(described: ModelDescription, where: str) -> GivenModel:
    like = _like(described, where)
    sizes, defaults = described.sizes.given(), described.defaults.given()
    if like is None:
        like = _from_nothing(described, where)
    changes: dict[str, Any] = {"name": described.pipeline}
    if described.text_embeddings is not None:
        changes["text_embeddings"] = tuple(described.text_embeddings)
    if described.conditions is not None:
        changes["conditions"] = tuple(map(_condition, described.conditions))
        changes["condition_arguments"] = as_given
    for field in ("prediction", "distilled_guidance"):
        if (value := getattr(described, field)) is not None:
            changes[field] = value
    if unknown := sorted(described.argument_names.keys() - set(STANDARD_ARGUMENTS)):
        raise UserError(
            f"--model-spec {where}: argument_names: {unknown[0]} is none of "
            f"{', '.join(STANDARD_ARGUMENTS)}"
        )
    if described.argument_names:
        changes["argument_names"] = {**like.argument_names, **described.argument_names}
    if described.call:
        changes["call_arguments"] = _Constants(like.call_arguments, tuple(described.call.items()))
    columns = [
        each.model_dump()
        for each in described.conditions or ()
        if isinstance(each, ConditionDescription)
    ]
    if described.call or described.argument_names or columns:
        text = json.dumps([described.call, described.argument_names, *columns], sort_keys=True)
        changes["variant"] = hashlib.sha256(text.encode()).hexdigest()[:8]
    if described.samplers:
        changes["family"] = dataclasses.replace(like.family, samplers=tuple(described.samplers))
    if described.network:
        changes["cache_family"] = _cache_family(described.network)
    known = dataclasses.replace(like, sources={"*": f"diffusers class by {where}"}, **changes)
    known = dataclasses.replace(known, defaults=dataclasses.replace(known.defaults, **defaults))
    own = described.model_dump(include={"licence", "dtype", "vae_tiling"}, exclude_none=True)
    return GivenModel(known, own, defaults, sizes, described.name or "")


def _condition(described: ConditionColumn | ConditionDescription) -> MediaCondition:
    if isinstance(described, ConditionDescription):
        return MediaCondition(described.column, described.argument, required=described.required)
    return MediaCondition(described)


def _like(described: ModelDescription, where: str) -> PipelineClass | None:
    name = described.like or described.pipeline
    if described.like and described.like not in PIPELINES:
        raise UserError(
            f"--model-spec {where}: like: {described.like} is not known; known are "
            f"{', '.join(PIPELINES)}"
        )
    return PIPELINES.get(name)


def _from_nothing(described: ModelDescription, where: str) -> PipelineClass:
    """A class that is like none that is known: the file must say what nothing else does."""
    needed = ("width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale")
    defaults, sizes = described.defaults.given(), described.sizes.given()
    missing = [f"defaults.{name}" for name in needed if name not in defaults]
    missing += [f"sizes.{name}" for name in ("multiple", "frame_stride") if name not in sizes]
    missing += ["network"] if described.network is None else []
    if missing:
        raise UserError(
            f"--model-spec {where}: {described.pipeline} is like no class that is known, so "
            f"{', '.join(missing)} must be given (or `like`)"
        )
    network = described.network or NetworkDescription(classes=["?"])
    family = ModelFamily(
        name=f"described-{network.classes[0]}", samplers=tuple(described.samplers or (EULER,))
    )
    sampling: dict[str, Any] = {
        "max_sequence_length": 512,
        "sampler": family.samplers[0],
    } | defaults
    return PipelineClass(
        name=described.pipeline,
        family=family,
        sizes=SizeRules(**sizes),
        defaults=SamplingDefaults(**sampling),
        sources={},
        text_embeddings=(),
    )


def _cache_family(network: NetworkDescription) -> Family:
    return Family(
        name=f"described-{network.classes[0]}",
        classes=tuple(network.classes),
        contexts={name: tuple(branches) for name, branches in network.contexts.items()},
        per_row=tuple(network.per_row),
        latents=network.latents,
    )
