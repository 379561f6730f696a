"""Makes an object of a class that a flag names: of this package, an installed one, or a user's own.

A flag takes a name of the package, the name of an entry point, or `module:Class`. Each may be
followed by `=ARGUMENT`, which the class is called with, such as the folder of its weights. A class
is imported only where it is used.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import UserError, message_of


@dataclass(frozen=True, slots=True)
class ExtensionPoint:
    """A flag that names classes of one kind.

    Attributes:
        flag: As `--scorers`, for messages.
        noun: What an instance is, as `scorer`.
        protocol: Dotted path of what an instance must be, for messages.
        members: Attributes that an instance must have.
        group: Group of the entry points through which an installed package offers classes.
        known: Class of each name that comes with the package, as `module:Class`.
        others: Further names that the flag takes, for the message about an unknown one.
    """

    flag: str
    noun: str
    protocol: str
    members: tuple[str, ...]
    group: str
    known: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def make(self, text: str) -> Any:
        """Make what a flag names.

        Args:
            text: `NAME`, `NAME=ARGUMENT`, `module:Class` or `module:Class=ARGUMENT`.

        Raises:
            UserError: The name is unknown, the class cannot be imported or called, or the instance
                lacks a member.
        """
        name, given, argument = text.partition("=")
        where = self._class_of(name)
        try:
            made = where(argument) if given else where()
        except UserError:
            raise
        except Exception as error:  # a user's own class can raise anything
            raise UserError(
                f"{self.flag} {text}: {type(error).__name__}: {message_of(error)}"
            ) from error
        lacking = [each for each in self.members if not hasattr(made, each)]
        if lacking:
            raise UserError(
                f"{self.flag} {text}: {type(made).__name__} is no {self.noun}: it lacks "
                f"{', '.join(lacking)} (see {self.protocol})"
            )
        return made

    def _class_of(self, name: str) -> Any:
        if ":" in name:
            return self._imported(name, name)
        if name in self.known:
            return self._imported(name, self.known[name])
        installed = {point.name: point.value for point in entry_points(group=self.group)}
        if name in installed:
            return self._imported(name, installed[name])
        known = [*self.others, *self.known, *installed]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(
            f"{self.flag} {name}: unknown; {hint}known are {', '.join(known)}, or module:Class"
        )

    def _imported(self, name: str, path: str) -> Any:
        module, _, attribute = path.partition(":")
        try:
            return functools.reduce(getattr, attribute.split("."), import_module(module))
        except Exception as error:  # importing a user's module can raise anything
            raise UserError(
                f"{self.flag} {name}: cannot import {path}: "
                f"{type(error).__name__}: {message_of(error)}"
            ) from error
