"""Mutants that no test can notice, because they do what the code does; each with the reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("equal.toml")


@dataclass(frozen=True, slots=True)
class Listed:
    """A mutant on the list.

    Attributes:
        function: Module and function.
        old: The lines that the mutant changes, without indentation.
        new: What it makes of them.
        reason: Why nothing that anybody sees changes.
    """

    function: str
    old: str
    new: str
    reason: str


def read_listed(path: Path = LIST) -> list[Listed]:
    """Read the list."""
    return [Listed(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]
