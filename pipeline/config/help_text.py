"""The text of `--help` and `--help-all`, made from a pydantic model and its field descriptions."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.wording import called_as

HELP_WIDTH = 100
_FLAG_WIDTH = 34
_INTRO = """\
usage: {program} [--config FILE] --prompts URI --output URI [flags]

Make a dataset of video clips from prompts. Run the same command again to resume.
Flags override the YAML file, whose names have _ for -: `cache: {{max_reuse: 2}}`.
`{program} --list-models` prints the models with their sizes, settings and licences.
Exit code: 0 done; 1 more failed than allowed; 2 bad configuration or input; 3 the Ray cluster went
away; 130 interrupted.
"""


def flag(path: Sequence[str]) -> str:
    """Return the flag of a field: `("cache", "max_reuse")` is `--cache.max-reuse`."""
    return "--" + ".".join(path).replace("_", "-")


def walk(
    model: type[BaseModel], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the path and the field of every setting, nested ones after the plain ones."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield (*above, name), field
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            yield from walk(section, (*above, name))


def help_text(model: type[BaseModel], shown: Collection[str] | None = None) -> str:
    """Return the help: one entry a flag, in sections as the model nests them.

    Args:
        model: The settings.
        shown: Dotted names of the settings to show, such as `cache.quality`; None shows all.
    """
    title = "all settings" if shown is None else "settings (--help-all shows all of them)"
    lines = [_INTRO.format(program=called_as("generate")), title]
    section = ""
    for path, field in walk(model):
        if shown is not None and ".".join(path) not in shown:
            continue
        if len(path) > 1 and path[0] != section:
            section = path[0]
            described = section_of(model.model_fields[section])
            lines += ["", f"{section}: {(described.__doc__ or '') if described else ''}"]
        left = f"  {flag(path)} {_values(field)}".rstrip()
        right = f"{field.description}{_default(field)}"
        if field.default is True:
            left, right = f"  --no-{flag(path)[2:]}", f"turn off: {right}"
        if len(left) >= _FLAG_WIDTH:
            lines.append(left)
            left = ""
        lines += textwrap.wrap(
            right,
            HELP_WIDTH,
            initial_indent=left.ljust(_FLAG_WIDTH),
            subsequent_indent=" " * _FLAG_WIDTH,
        )
    return "\n".join([*lines, ""])


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that holds settings, None for a plain field."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _values(field: FieldInfo) -> str:
    """What a flag takes: nothing for a switch, choices, or the kind of value."""
    kind = field.annotation
    if kind is bool:
        return ""
    options = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    if get_origin(kind) is Literal:
        return "|".join(str(option) for option in options if option)
    words = {int: "N", float: "X", str: "TEXT", bool: "true|false"}
    items = [get_args(option)[0] if get_origin(option) is list else option for option in options]
    return "|".join(words.get(item) or str(get_args(item)[0]) for item in items)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    unsaid = field.annotation is bool or field.default in (None, "", [])
    return "" if unsaid else f" (default {field.default})"
