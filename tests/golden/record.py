"""Recorded documents: where they lie, how they are written, and what differs between two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
SECTIONS = ("ids", "flags", "schema", "messages", "samples")
TOLERANCE = 2
"""Steps of 255 by which the coarse grids of two machines may differ."""

ABSENT = "(absent)"


def path_of(section: str) -> Path:
    """The file of a section."""
    return FOLDER / f"{section}.json"


def text_of(document: Mapping[str, Any]) -> str:
    """The bytes of a file: equal documents give equal ones."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=True) + "\n"


def write(section: str, document: Mapping[str, Any]) -> None:
    """Record a section."""
    FOLDER.mkdir(exist_ok=True)
    path_of(section).write_text(text_of(document))


def read(section: str) -> dict[str, Any]:
    """What is recorded of a section."""
    found: dict[str, Any] = json.loads(path_of(section).read_text())
    return found


def differences(section: str, made: Mapping[str, Any], *, partly: bool = False) -> list[str]:
    """A line for each value of a section that is not as it was recorded.

    Args:
        section: One of `SECTIONS`.
        made: What it is now.
        partly: Whether only some clips of the samples were made, and those alone are compared.
    """
    recorded, made = read(section), json.loads(text_of(made))
    if partly:
        recorded["clips"] = {n: clip for n, clip in recorded["clips"].items() if n in made["clips"]}
    if section == "samples" and not is_exact(made):
        recorded, made = _coarse(recorded, made)
    elif section == "samples":
        recorded, made = {"clips": recorded["clips"]}, {"clips": made["clips"]}
    before, after = dict(_leaves(recorded)), dict(_leaves(made))
    lines = []
    for where in sorted(before.keys() | after.keys()):
        old, new = before.get(where, ABSENT), after.get(where, ABSENT)
        if old != new or type(old) is not type(new):
            lines.append(f"{section}: {where}\n    was {old!r}\n    is  {new!r}")
    return lines


def is_exact(made: Mapping[str, Any]) -> bool:
    """Whether samples were recorded on such a machine as this, so that hashes must be equal."""
    return bool(made["machine"] == read("samples")["machine"])


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, str) and value.startswith("{"):
        value = _parsed(value)
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{where} > {name}" if where else str(name))
    elif isinstance(value, list) and value and any(isinstance(part, dict) for part in value):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{where} > {number}")
    else:
        yield where, value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _coarse(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both without hashes, and without those grids that are within the tolerance."""
    old_clips = {name: dict(clip) for name, clip in old["clips"].items()}
    new_clips = {name: dict(clip) for name, clip in new["clips"].items()}
    for name, clip in new_clips.items():
        before = old_clips.get(name, {})
        if _near(before.get("grids"), clip.get("grids")):
            before.pop("grids", None)
            clip.pop("grids", None)
    for clip in (*old_clips.values(), *new_clips.values()):
        clip.pop("sha256", None)
    return {"clips": old_clips}, {"clips": new_clips}


def _near(one: list[str] | None, other: list[str] | None) -> bool:
    if one is None or other is None or list(map(len, one)) != list(map(len, other)):
        return one == other
    return all(
        abs(a - b) <= TOLERANCE
        for left, right in zip(one, other, strict=True)
        for a, b in zip(bytes.fromhex(left), bytes.fromhex(right), strict=True)
    )
