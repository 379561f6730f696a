"""The contracts with users: flags of every job with their types and ranges, and the schemas.

Taken from the typed settings and the parsers, not from the text of `--help`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import pyarrow as pa

from tests.golden import names

WORDING = {"title", "description"}
"""What a JSON schema says for people only; it holds names of classes and their docstrings."""

RESOLVED: Mapping[str, tuple[str, ...]] = {
    "defaults": (),
    "quality": ("--cache.quality=fast",),
    "lossless": ("--cache.quality=lossless",),
    "budget": ("--cache.budget=0.4",),
    "epsilon": ("--cache.epsilon=0.3",),
    "planned": ("--cache.policy=planned",),
    "no cache": ("--cache.policy=none", "--cache.budget=0.3"),
    "counts": ("--replicas=3", "--batch-rows=auto", "--limit=5", "--no-report"),
    "adapters": ("--engine.adapters=a.safetensors@0.5,b.safetensors",),
    "nulls": ("--limit=null", "--sampling.seed=null", "--engine.vae-tiling=null"),
}
"""Command lines whose complete settings are recorded."""


class _Captured(Exception):  # noqa: N818
    """Carries a parser out of the job that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def flags() -> dict[str, Any]:
    """Every flag of every job."""
    schema = plain(names.Settings.model_json_schema())
    return {
        "generate": dict(_fields(schema)),
        "generate --help": sorted(
            set(re.findall(r"^  (--[\w.-]+)", _output("generate", "--help-all"), re.M))
        ),
        "generate settings": {
            name: names.load_settings(["--prompts=p", "--output=o", *given]).to_dict()
            for name, given in RESOLVED.items()
        },
        **{job: _options(job) for job in ("calibrate", "report", "export")},
        "benchmark": {command: _options("benchmark", command) for command in names.BENCHMARKS},
    }


def schema() -> dict[str, Any]:
    """The columns of an output row in their order, and the schema of a report."""
    metadata = names.SCHEMA.metadata or {}
    return {
        "row": [_column(field) for field in names.SCHEMA],
        "row metadata": {key.decode(): value.decode() for key, value in metadata.items()},
        "report": plain(json.loads(_output("report", "--schema"))),
    }


def plain(schema: Mapping[str, Any]) -> Any:
    """A JSON schema with its references filled in and without titles and descriptions."""
    definitions = schema.get("$defs", {})

    def walk(value: Any, named: bool) -> Any:
        if isinstance(value, list):
            return [walk(part, False) for part in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            target = definitions[value["$ref"].rpartition("/")[2]]
            return walk(target, False) | {
                key: part for key, part in value.items() if key == "default"
            }
        return {
            # Below `properties` the keys are names of fields, which may be `title` themselves.
            key: walk(part, key == "properties" and not named)
            for key, part in value.items()
            if named or key not in WORDING | {"$defs"}
        }

    return walk(schema, False)


def _fields(schema: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in schema["properties"].items():
        if "properties" in value:
            yield from _fields(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value | {"required": name in schema.get("required", ())}


def _options(job: str, *argv: str) -> dict[str, Any]:
    """The options of a job that uses argparse."""

    def capture(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Captured(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", capture):
        try:
            names.JOBS[job](list(argv))
        except _Captured as captured:
            parser = captured.parser
    for word in argv:
        commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[word]
    found = {}
    for action in parser._actions:
        kind = "" if action.type is None else getattr(action.type, "__name__", "")
        found[" ".join(action.option_strings) or action.dest] = {
            "action": type(action).__name__.strip("_"),
            "choices": None if action.choices is None else list(action.choices),
            "default": action.default,
            "nargs": action.nargs,
            "required": action.required,
            "type": kind if kind in ("int", "float", "str", "") else "own",
        }
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def _output(job: str, *argv: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        names.JOBS[job](list(argv))
    return text.getvalue()


def _column(field: pa.Field) -> dict[str, Any]:
    kind = field.type
    shape = [_column(part) for part in kind] if pa.types.is_struct(kind) else str(kind)
    return {"name": field.name, "nullable": field.nullable, "type": shape}
