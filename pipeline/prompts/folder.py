"""Finds the Parquet files of a folder or glob pattern.

Left out, counted and named: files that tools hide or have not finished (a name that begins with
`.` or `_`, such as `._x`, `_SUCCESS`, `_temporary/`, `.ipynb_checkpoints/`), files of other kinds,
and the output of earlier runs below the folder. Folders named `key=value` (Hive, Spark) become
columns.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline.errors import UserError
from pipeline.prompts.column_names import close_name
from pipeline.prompts.prompt_file import ReadNotes, SourceFile, SourceSize, extension
from pipeline.storage.places import host_note
from pipeline.storage.storage import Storage

MOST_NAMED = 5
"""Files that a message names."""

_WRITTEN = re.compile(r"(?:(.*)/)?(?:runs/\d{8}T\d{6}Z[^/]*|export)\.json")
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def parquet_files(uri: str, notes: ReadNotes) -> list[SourceFile]:
    """Find the files of a folder or glob pattern, in the order of their names.

    `*` does not cross folders; `**` stands for any number of folders. A pattern that itself begins
    with `.` or `_` also matches hidden names.

    Raises:
        UserError: There is no Parquet file; the text says what there is.
    """
    folder, pattern = uri.rstrip("/"), ""
    while any(sign in folder for sign in "*?["):
        folder, _, last = folder.rpartition("/")
        pattern = f"{last}/{pattern}" if pattern else last
    storage = Storage(folder or ("/" if uri.startswith("/") else "."))
    sizes = {entry.key: entry.size for entry in storage.list()}
    keys = list(sizes)
    wanted = pattern.split("/") if pattern else ["**", "*"]
    outputs = _outputs(keys)
    files: list[SourceFile] = []
    source = SourceSize()
    matched = 0
    for key in keys:
        parts = key.split("/")
        if not _matches(parts, wanted, hidden=True):
            continue
        matched += 1
        if not _matches(parts, wanted, hidden=False):
            notes.add("hidden or unfinished files", key)
        elif any(key.startswith(output) for output in outputs):
            if extension(key) == ".parquet":
                notes.add("files that earlier runs or exports have written", key)
        elif not sizes[key]:
            notes.add("empty files", key)
        elif extension(key) != ".parquet":
            notes.add("files that are not .parquet", key)
        else:
            partitions = _partitions(parts[:-1])
            place = f"{storage.uri}/{key}"
            source.total_bytes += sizes[key]
            files.append(
                SourceFile(storage, key, key, place, notes, partitions, sizes[key], source)
            )
    if files:
        return files
    if "" in outputs and matched:
        raise UserError(
            f"{uri}: is the output of earlier runs or an export; name its folder data/ to read that"
        )
    if matched:
        raise UserError(
            f"{uri}: holds no .parquet file; name one file of another kind directly{notes.suffix()}"
        )
    right = "name a file, or a folder or pattern of .parquet files"
    raise UserError(f"{uri}{host_note(uri)}: {_why_none(uri, storage, pattern)}; {right}")


def _why_none(uri: str, storage: Storage, pattern: str) -> str:
    """Say that nothing is there, and what there is near it on the local disk."""
    if pattern:
        return f"no file matches {pattern} in {storage.uri}"
    path = Path(storage.uri)
    if not path.is_absolute() or "://" in storage.uri:
        return "not found"
    if path.is_dir():
        return "is an empty folder"
    folder = path.parent
    if not folder.is_dir():
        return f"not found, for there is no folder {folder}"
    names = sorted(each.name for each in folder.iterdir())
    stems = {name.partition(".")[0]: name for name in names}  # alike endings say nothing
    if near := close_name(path.name.partition(".")[0], stems):
        return f"not found (did you mean {stems[near]}?)"
    alike = [name for name in names if path.suffix and name.endswith(path.suffix)]
    if not alike:
        return f"not found in {folder}"
    more = f" and {len(alike) - MOST_NAMED} more" if len(alike) > MOST_NAMED else ""
    return f"not found in {folder}, which holds {', '.join(alike[:MOST_NAMED])}{more}"


def _outputs(keys: Iterable[str]) -> list[str]:
    """What runs and exports have written among some keys, known by their manifests and records."""
    found = {match[1] for match in map(_WRITTEN.fullmatch, keys) if match}
    return sorted(f"{prefix}/" if prefix else "" for prefix in found)


def _matches(parts: Sequence[str], pattern: Sequence[str], *, hidden: bool) -> bool:
    """Whether a key matches a pattern, both in parts; hidden names match only if asked for."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        if _matches(parts, rest, hidden=hidden):
            return True
        visible = bool(parts) and (hidden or not _is_hidden(parts[0]))
        return visible and _matches(parts[1:], pattern, hidden=hidden)
    if not parts or not fnmatch.fnmatchcase(parts[0], first):
        return False
    if _is_hidden(parts[0]) and not hidden and first[0] != parts[0][0]:
        return False
    return _matches(parts[1:], rest, hidden=hidden)


def _is_hidden(name: str) -> bool:
    return name[:1] == "." or (name[:1] == "_" and "=" not in name)


def _partitions(folders: Sequence[str]) -> Mapping[str, Any]:
    """The columns that folders named `key=value` stand for."""
    found: dict[str, Any] = {}
    for folder in folders:
        name, sign, text = folder.partition("=")
        if sign and name:
            value = unquote(text)
            number = _WHOLE_NUMBER.fullmatch(value)
            found[unquote(name)] = None if text == _NO_VALUE else int(value) if number else value
    return found
