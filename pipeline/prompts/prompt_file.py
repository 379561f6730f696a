"""What the readers of all formats share: a row, a file, and which column holds the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline.errors import UserError
from pipeline.storage.storage import Storage

PROMPT_COLUMN = "prompt"
"""Default column of the text; only this default falls back to `FALLBACK_COLUMNS`."""
FALLBACK_COLUMNS = ("caption", "text")
NUMBER_COLUMNS = frozenset(
    {"seed", "width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale"}
)
KNOWN_COLUMNS = NUMBER_COLUMNS | {"negative_prompt", "image"}


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One input row.

    Attributes:
        key: Where it stands, `file:row`, counted from 1.
        values: Known columns, the text under `prompt`; None or absent means "not given". For a row
            with a problem: what could be read of it.
        problem: Why it could not be read, "" if it could.
    """

    key: str
    values: dict[str, Any] = field(hash=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: where it is, its name in row keys, and its name in messages."""

    storage: Storage
    key: str
    name: str
    uri: str

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return self.storage.open(self.key)


def settle_column(uri: str, wanted: str, names: Iterable[str]) -> str:
    """Say which column holds the text.

    Raises:
        UserError: None does, or a column that matters is there twice.
    """
    names = list(names)
    choices = (wanted, *FALLBACK_COLUMNS) if wanted == PROMPT_COLUMN else (wanted,)
    found = next((name for name in choices if name in names), "")
    if not found:
        shown = ", ".join(map(repr, names[:20])) or "none"
        raise UserError(f"{uri}: no column {wanted!r}; set --prompt-column to one of: {shown}")
    for name in (found, *KNOWN_COLUMNS):
        if names.count(name) > 1:
            raise UserError(f"{uri}: column {name!r} is there twice; keep one")
    return found


def known_values(values: dict[str, Any], column: str) -> dict[str, Any]:
    """Keep what a request can use, the text under `prompt`."""
    known = {name: value for name, value in values.items() if name in KNOWN_COLUMNS}
    return {PROMPT_COLUMN: values[column]} | known


def extension(name: str) -> str:
    """Return the extension in lower case with its dot, "" without one."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""
