"""Keys: the names of files below the prefix of a storage."""

from __future__ import annotations

from dataclasses import dataclass

TEMP_PREFIX = ".tmp-"
"""Names of unfinished writes begin with this."""


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """One listed file: its key relative to the storage, and its size in bytes."""

    key: str
    size: int


def is_temp(key: str) -> bool:
    """Whether a key names an unfinished write."""
    return key.rpartition("/")[2].startswith(TEMP_PREFIX)


def check_key(key: str) -> None:
    """Refuse what could leave the prefix or look like an unfinished write.

    Raises:
        ValueError: It is not a key.
    """
    if any(part in ("", ".", "..") for part in key.split("/")) or is_temp(key) or "\x00" in key:
        raise ValueError(f"{key!r} is not a key: no empty, dot or temporary segments, no NUL")
