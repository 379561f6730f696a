"""The command line of a command: `argparse`, but each mistake is one plain line and exit code 2.

argparse prints its usage, many lines of flags, and says the mistake below. It also names required
flags that are missing before the misspelt one, which may be one of them.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from pipeline.config.flag_names import no_flag
from pipeline.redaction import shown
from pipeline.wording import are, listed

EXIT_USAGE = 2

_NUMBERS = {"int": "a whole number", "float": "a number"}
_CHOICE = re.compile(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", re.DOTALL)
_VALUE = re.compile(r"invalid (\w+) value: '(.*)'", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line each, with what was meant where that can be guessed."""

    def __init__(self, *, further: Iterable[str] = (), **options: Any) -> None:
        """Create a parser.

        Args:
            further: Flags that the command hands on, and that its parser does not know.
            options: See `argparse.ArgumentParser`.
        """
        super().__init__(**options)
        self._further = tuple(further)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse flags that there are not, before anything else is said."""
        given = list(sys.argv[1:] if args is None else args)
        known = [*self._option_string_actions, *self._further]
        for word in given:
            if self._subparsers is not None or word == "--":
                break  # what follows is for the parser of a subcommand, or no flag
            name = word.partition("=")[0]
            is_short = self.allow_abbrev and any(each.startswith(name) for each in known)
            if name.startswith("--") and " " not in name and name not in known and not is_short:
                self.error(no_flag(name, known))
        found: tuple[argparse.Namespace, list[str]] = super().parse_known_args(given, namespace)
        return found

    def error(self, message: str) -> NoReturn:
        """Print a mistake in one line and exit."""
        self.exit(EXIT_USAGE, f"error: {shown(plain_problem(message))}\n")


def plain_problem(message: str) -> str:
    """A message of argparse in plain words."""
    what, colon, rest = message.removeprefix("argument ").partition(": ")
    flag = what.split("/")[-1] if colon and message.startswith("argument ") else ""
    if message.startswith("the following arguments are required: "):
        names = rest.split(", ")
        return f"{listed(names)} {are(len(names))} required"
    if message.startswith("unrecognized arguments: "):
        return f"{rest.split()[0]!r} belongs to no flag; every value follows its flag: --name value"
    if message.startswith("ambiguous option: "):
        word, _, could = rest.partition(" could match ")
        return f"{word} may be {listed(could.split(', '), 'or')}"
    if flag and rest.startswith("expected"):
        return f"{flag} needs a value"
    if flag and rest.startswith("ignored explicit argument"):
        return f"{flag} is a switch: it takes no value"
    if flag and (found := _VALUE.fullmatch(rest)) and found[1] in _NUMBERS:
        return f"{flag} should be {_NUMBERS[found[1]]}, not {found[2]!r}"
    if flag and (found := _CHOICE.fullmatch(rest)):
        choices = [each.strip().strip("'") for each in found[2].split(",")]
        near = difflib.get_close_matches(found[1], choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{flag} {found[1]}: should be one of {', '.join(choices)}{hint}"
    return " ".join(message.split())
