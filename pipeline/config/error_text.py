"""What the command line and the YAML file say about a mistake: one line for each kind.

Works with any pydantic model and knows no setting by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.cache_section import CONFLICT
from pipeline.config.flag_names import no_flag
from pipeline.config.help_text import flag, section_of, walk
from pipeline.errors import UserError

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
"""Texts for pydantic's error types; the other types keep pydantic's own text."""


def check_flags(argv: Sequence[str], model: type[BaseModel]) -> None:
    """Refuse flags that do not exist, and name the closest one that does.

    Raises:
        UserError: The first unknown flag.
    """
    known = known_flags(model)
    for word in argv:
        name = word.partition("=")[0]
        if word.startswith("--") and name not in known:
            raise UserError(no_flag(name, known, "--help-all"))


def known_flags(model: type[BaseModel]) -> list[str]:
    """The flags of a model, and those that print help."""
    known = ["--help", "--help-all"]
    for path, field in walk(model):
        known.append(flag(path))
        if field.annotation is bool:
            known.append("--no-" + flag(path)[2:])
    return known


def parse_problem(text: str) -> str:
    """Replace the text of argparse by a plain one."""
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
    # A misspelt name is reported as unknown and as missing; the first is the one to correct.
    problem = min(problems, key=lambda p: p["type"] == "missing")
    path = [str(part) for part in problem["loc"]]
    place = f"{file}: " if file else ""
    if problem["type"] == "missing":
        where = f"; set {flag(path)}, or {'.'.join(path)}: in {file}" if file else ""
        return f"{flag(path)} is required{where}"
    if problem["type"] == "extra_forbidden":
        return f"{place}there is no setting {'.'.join(path)}{_suggest(path, model)}"
    if problem["type"] == CONFLICT:
        names = [[*path, name] for name in problem["ctx"]["names"]]
        by_flags = all(_given(name, flags) for name in names)
        words = " and ".join(flag(name) if by_flags else ".".join(name) for name in names)
        return f"{'' if by_flags else place}{words} {problem['ctx']['why']}"
    path = path[: _depth(path, model)]
    where = flag(path) if _given(path, flags) else f"{place}{'.'.join(path)}"
    return f"{where} {_expected(problem, path, model)}, not {problem['input']!r:.60}".strip()


def _suggest(path: Sequence[str], model: type[BaseModel]) -> str:
    """Suggest the closest setting: first in the section of the mistake, then anywhere."""
    names = {name[-1]: ".".join(name) for name, _ in walk(model)}
    local = {name: dotted for name, dotted in names.items() if dotted.split(".")[:-1] == path[:-1]}
    for candidates in (local, names):
        found = difflib.get_close_matches(path[-1], candidates, 1, 0.6)
        if found:
            return f"; did you mean {candidates[found[0]]}?"
    return f"; there are {', '.join(local)}"


def _depth(path: Sequence[str], model: type[BaseModel]) -> int:
    """Count the parts of an error's location that name fields; the rest names parts of a union."""
    depth, level = 0, model
    for part in path:
        if part not in level.model_fields:
            break
        depth += 1
        section = section_of(level.model_fields[part])
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
    return not isinstance(found, Mapping)  # only the file can give a whole section


def _expected(problem: ErrorDetails, path: Sequence[str], model: type[BaseModel]) -> str:
    if problem["type"] == "model_type":
        section = section_of(model.model_fields[path[0]])
        names = ", ".join(section.model_fields) if section else ""
        return f"should hold settings below it ({names})"
    text = _EXPECTED.get(problem["type"], problem["msg"]).replace("'', ", "")  # unset is no choice
    return text.removeprefix("Value error, ").replace("Input should", "should")
