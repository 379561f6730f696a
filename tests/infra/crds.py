"""The operators' own definitions beside the manifests; outside `make test`, for they are theirs.

    CRD_DIR=folder python -m pytest tests/infra/crds.py

with the `CustomResourceDefinition` files of KubeRay, and those of Kueue and the Prometheus operator
where they are at hand (in their repositories, under `config/crd` or the like). It holds to them
each overlay, and the strict types that stand in for them in `make test` (tests/infra/rayjob.py).
"""

from __future__ import annotations

import functools
import os
import types
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from tests.infra.manifests import OVERLAYS, Manifest, rendered
from tests.infra.rayjob import RayJob

TYPES: dict[Any, str] = {str: "string", int: "integer", bool: "boolean", dict: "object"}


@functools.cache
def definitions() -> dict[tuple[str, str], Any]:
    """Schemas by API version and kind; deprecated versions are left out."""
    found = {}
    for path in Path(os.environ["CRD_DIR"]).rglob("*.yaml"):
        definition = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        spec = definition["spec"]
        for version in spec["versions"]:
            if version["served"] and not version.get("deprecated"):
                kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[kind] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Any) -> Any:
    """A schema that refuses unknown fields, as the API server prunes them without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(each) for name, each in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if schema.keys() >= {"apiVersion", "kind", "metadata"}:  # properties of a whole object
        made["metadata"] = {"type": "object"}
    return made


@functools.cache
def validator(kind: tuple[str, str]) -> Any:
    return jsonschema.Draft202012Validator(definitions()[kind])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_fits_the_definitions(overlay: str) -> None:
    groups = {version.partition("/")[0] for version, _ in definitions()}
    theirs = [m for m in rendered(overlay) if m["apiVersion"].partition("/")[0] in groups]
    assert "RayJob" in {manifest["kind"] for manifest in theirs}
    for manifest in theirs:
        validator((manifest["apiVersion"], manifest["kind"])).validate(manifest)


def test_a_mistake_is_found() -> None:
    (job,) = [m for m in rendered("demo") if m["kind"] == "RayJob"]
    wrong: Manifest = {**job, "spec": {**job["spec"], "ttlSeconds": 5}}
    with pytest.raises(jsonschema.ValidationError, match="ttlSeconds"):
        validator(("ray.io/v1", "RayJob")).validate(wrong)


def test_the_strict_types_say_what_the_definition_says() -> None:
    said = list(differences(RayJob, definitions()["ray.io/v1", "RayJob"], "RayJob"))
    assert said == []


def differences(model: type[BaseModel], schema: Any, where: str) -> typing.Iterator[str]:
    """Fields of a model that the definition does not have, or has as something else."""
    properties = schema["properties"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        at = f"{where}.{key}"
        if key not in properties:
            yield f"{at}: unknown"
        elif key not in ("apiVersion", "kind", "metadata"):
            yield from unlike(field.annotation, properties[key], at)


def unlike(annotation: Any, schema: Any, where: str) -> typing.Iterator[str]:
    if get_origin(annotation) in (types.UnionType, typing.Union):
        (annotation,) = [each for each in get_args(annotation) if each is not type(None)]
    origin = get_origin(annotation) or annotation
    if origin is typing.Annotated:
        yield from unlike(get_args(annotation)[0], schema, where)
    elif origin is typing.Literal:
        if not set(get_args(annotation)) <= set(schema.get("enum", get_args(annotation))):
            yield f"{where}: {get_args(annotation)} is not among {schema['enum']}"
    elif origin is list:
        yield from unlike(get_args(annotation)[0], schema["items"], f"{where}[]")
    elif isinstance(origin, type) and issubclass(origin, BaseModel):
        yield from differences(origin, schema, where)
    elif TYPES[origin] != schema.get("type"):
        yield f"{where}: {TYPES[origin]} is {schema.get('type')} there"
