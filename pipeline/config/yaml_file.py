"""Reads a YAML file of settings as plain values, and merges it with those of the command line.

A mistake in the form of the file gives a message of one line. Knows no setting by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.storage.storage import locate


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice; YAML would silently take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a name is a list or a mapping; write `name: value`",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str, sections: Collection[str]) -> dict[str, Any]:
    """Read the settings of a file.

    Args:
        path: A path or URI.
        sections: Names of the settings that hold others.

    Raises:
        UserError: It is not a YAML file of settings; the text names the line if it is known.
        StorageError: The file cannot be read.
    """
    if not path:
        raise UserError("--config needs the name of a YAML file")
    storage, name = locate(path)
    try:
        loaded = yaml.load(storage.read_bytes(name), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    except RecursionError:
        raise UserError(f"{path}: not a YAML file of settings: nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # The loader's own conversions raise them, e.g. for the date 2026-99-99.
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a YAML text file: {text}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: should hold settings as `name: value`, one a line")
    if odd := [name for name in loaded if not isinstance(name, str)]:
        raise UserError(f"{path}: {odd[0]!r} is not the name of a setting")
    # A section whose lines are all commented out reads as null and sets nothing.
    return {k: {} if v is None and k in sections else v for k, v in loaded.items()}


def merge(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of both, section by section; those of the command line win."""
    merged = dict(file)
    for name, value in flags.items():
        below = merged.get(name, {})
        if not isinstance(value, dict):
            merged[name] = value
        elif isinstance(below, dict):  # otherwise the file's mistake is reported later
            merged[name] = merge(below, value)
    return merged
