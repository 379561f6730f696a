"""What the command line says to people: the help, and one line for each kind of mistake.

Works from any pydantic model; knows no setting by name.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.config.cache_section import CONFLICT
from pipeline.errors import UserError

HELP_WIDTH = 100
_FLAG_WIDTH = 34
_INTRO = """\
usage: python jobs/generate.py [--config FILE] --prompts URI --output URI [flags]

Make a dataset of video clips from prompts. The same command again goes on where it stopped.
Flags override the YAML file, whose names have _ for -: `cache: {max_reuse: 2}`.
Exit code: 0 done; 1 more failed than allowed; 2 bad configuration or input; 130 interrupted.
"""
_EXPECTED = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "int_from_float": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a smaller whole number",
    "int_type": "should be a whole number",
    "string_too_short": "should not be empty",
    "string_type": "should be text",
}
"""Our words for pydantic's error types; its own text serves for the others."""


def flag(path: Sequence[str]) -> str:
    """Return the flag of a field: `("cache", "max_reuse")` is `--cache.max-reuse`."""
    return "--" + ".".join(path).replace("_", "-")


def walk(
    model: type[BaseModel], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the path and the field of every setting, nested ones after the plain ones."""
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            yield (*above, name), field
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from walk(section, (*above, name))


def check_flags(argv: Sequence[str], model: type[BaseModel]) -> None:
    """Refuse flags that do not exist, with the closest one that does.

    Raises:
        UserError: The first unknown flag.
    """
    known = ["--help"]
    for path, field in walk(model):
        known.append(flag(path))
        if field.annotation is bool:
            known.append("--no-" + flag(path)[2:])
    for word in argv:
        name = word.partition("=")[0]
        if word.startswith("--") and name not in known:
            raise UserError(f"there is no flag {name}{_closest(name, known)}; --help lists all")


def parse_problem(text: str) -> str:
    """Turn what argparse says into our words."""
    text = text.removeprefix("error parsing CLI: ")
    if text.endswith("expected one argument"):
        return f"{text.removeprefix('argument ').partition(':')[0]} needs a value"
    if text.startswith("unrecognized arguments: "):
        word = text.removeprefix("unrecognized arguments: ").split()[0]
        return f"{word!r} belongs to no flag; every value follows its flag: --name value"
    if "ignored explicit argument" in text:
        return f"{text.removeprefix('argument ').partition('/')[0]} is a switch: it takes no value"
    return " ".join(text.split())


def validation_problem(
    error: ValidationError, model: type[BaseModel], flags: Mapping[str, Any], file: str
) -> str:
    """Say what is wrong with a configuration in one line.

    Args:
        error: What pydantic found.
        model: The model that was validated.
        flags: What the command line gave, nested as the model is; the rest came from the file.
        file: Path of the YAML file, "" without one.
    """
    problems = error.errors(include_url=False)
    # A misspelt name shows twice, as unknown and as missing: the first is the one to correct.
    problem = min(problems, key=lambda p: p["type"] == "missing")
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "missing":
        where = f"; set {flag(path)}, or {'.'.join(path)}: in {file}" if file else ""
        return f"{flag(path)} is required{where}"
    if problem["type"] == "extra_forbidden":
        return f"{file}: there is no setting {'.'.join(path)}{_suggest(path, model)}"
    if problem["type"] == CONFLICT:
        names = [[*path, name] for name in problem["ctx"]["names"]]
        by_flags = all(_given(name, flags) for name in names)
        words = " and ".join(flag(name) if by_flags else ".".join(name) for name in names)
        return f"{'' if by_flags else f'{file}: '}{words} {problem['ctx']['why']}"
    path = path[: _depth(path, model)]
    where = flag(path) if _given(path, flags) else f"{file}: {'.'.join(path)}"
    return f"{where} {_expected(problem, path, model)}, not {problem['input']!r:.60}"


def help_text(model: type[BaseModel]) -> str:
    """Return the whole help: one line a flag, sections as the model nests them."""
    lines = [_INTRO, "settings"]
    section = ""
    for path, field in walk(model):
        if len(path) > 1 and path[0] != section:
            section = path[0]
            described = _section(model.model_fields[section])
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


def _section(field: FieldInfo) -> type[BaseModel] | None:
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
    return "|".join(words.get(option) or str(get_args(option)[0]) for option in options)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    unsaid = field.annotation is bool or field.default in (None, "", [])
    return "" if unsaid else f" (default {field.default})"


def _closest(word: str, known: Sequence[str]) -> str:
    nested = [name for name in known if name.startswith(f"{word}.")]
    found = nested[:1] or difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _suggest(path: Sequence[str], model: type[BaseModel]) -> str:
    """The closest setting: in the section of the mistake first, then anywhere."""
    names = {name[-1]: ".".join(name) for name, _ in walk(model)}
    local = {name: dotted for name, dotted in names.items() if dotted.split(".")[:-1] == path[:-1]}
    for candidates in (local, names):
        found = difflib.get_close_matches(path[-1], candidates, 1, 0.6)
        if found:
            return f"; did you mean {candidates[found[0]]}?"
    return f"; there are {', '.join(local)}"


def _depth(path: Sequence[str], model: type[BaseModel]) -> int:
    """How much of an error's location names fields; the rest names branches of a union."""
    depth, level = 0, model
    for part in path:
        if part not in level.model_fields:
            break
        depth += 1
        section = _section(level.model_fields[part])
        if section is None:
            break
        level = section
    return depth


def _given(path: Sequence[str], flags: Mapping[str, Any]) -> bool:
    found: Any = flags
    for part in path:
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return not isinstance(found, Mapping)  # a section is only ever given whole by the file


def _expected(problem: ErrorDetails, path: Sequence[str], model: type[BaseModel]) -> str:
    if problem["type"] == "model_type":
        section = _section(model.model_fields[path[0]])
        names = ", ".join(section.model_fields) if section else ""
        return f"should hold settings below it ({names})"
    text = _EXPECTED.get(problem["type"], problem["msg"]).replace("'', ", "")  # unset is no choice
    return text.removeprefix("Value error, ").replace("Input should", "should")
