"""Calibrations that can be interrupted and continued.

A journal is text, one JSON value per line: first what decides the numbers, then each finished batch
of clips with its measurements. It holds exact values, so an interrupted calibration gives the same
profile as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from sencache.calibration.secants import Secant, SecantBatch
from sencache.profiles.metadata import ProfileError

FORMAT = "sencache-journal/2"


class Journal(Protocol):
    """A place for the text of a journal; ``str`` of it is its name in error messages."""

    def load(self) -> str:
        """The text that was saved last; "" without one."""
        ...

    def save(self, text: str) -> None:
        """Replace the text."""
        ...


@dataclass(frozen=True)
class FileJournal:
    """A journal in a local file.

    Attributes:
        path: The file; its folder must exist.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> str:
        """The file's text; "" without a file. Bytes that a crash left incomplete are replaced."""
        if not self.path.exists():
            return ""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def save(self, text: str) -> None:
        """Replace the file in one operation, so that a crash leaves the old or the new one."""
        beside = self.path.with_name(f"{self.path.name}.new")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self.path)  # noqa: PTH105 - atomic also where the target exists


class CalibrationProgress:
    """The finished batches of one calibration, kept in a journal if there is one."""

    def __init__(self, journal: Journal | None, fingerprint: Mapping[str, Any]) -> None:
        """Read the journal.

        Args:
            journal: Where batches are kept; None keeps them in memory only.
            fingerprint: What decides the numbers, as JSON values. A batch that was measured
                under another fingerprint is never used.

        Raises:
            ProfileError: The journal belongs to another calibration, or it is damaged elsewhere
                than in its last line.
        """
        self._journal = journal
        self._batches: dict[int, SecantBatch] = {}
        head = {"format": FORMAT, "fingerprint": dict(fingerprint)}
        self._lines = [json.dumps(head)]
        if journal is None:
            return
        try:
            self._read(_values(journal.load()), head)
        except ProfileError as error:
            raise ProfileError(f"{journal}: {error}") from error

    def get(self, first_clip: int) -> SecantBatch | None:
        """The finished batch that begins with a clip; None if it is not finished."""
        return self._batches.get(first_clip)

    def add(self, first_clip: int, batch: SecantBatch) -> None:
        """Keep a finished batch."""
        self._remember(first_clip, batch)
        if self._journal:
            self._journal.save("".join(f"{line}\n" for line in self._lines))

    def _read(self, kept: list[Any], head: Mapping[str, Any]) -> None:
        if not kept:
            return
        _compare(kept[0], json.loads(json.dumps(head)))
        for number, value in enumerate(kept[1:], start=2):
            try:
                self._remember(value["first_clip"], _batch(value))
            except (KeyError, TypeError, AttributeError) as error:
                raise ProfileError(f"line {number} of the journal is no batch: {error}") from error

    def _remember(self, first_clip: int, batch: SecantBatch) -> None:
        self._batches[first_clip] = batch
        self._lines.append(json.dumps({"first_clip": first_clip, **asdict(batch)}))


def _values(text: str) -> list[Any]:
    """The values of a journal's lines; an incomplete last line is left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ProfileError(f"line {number} of the journal is damaged: {error}") from error
    return values


def _compare(kept: Any, mine: Mapping[str, Any]) -> None:
    """Raise ProfileError unless two first lines are of the same calibration."""
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        found = kept.get("format") if isinstance(kept, dict) else type(kept).__name__
        raise ProfileError(f"journal has format {found!r}; this version reads {FORMAT!r}")
    before, now = dict(kept.get("fingerprint") or {}), mine["fingerprint"]
    for name in now | before:
        if before.get(name) != now.get(name):
            raise ProfileError(
                f"journal was begun with {name} {before.get(name)!r} but this calibration has "
                f"{now.get(name)!r}; go on with the same settings, or delete the journal"
            )


def _batch(value: Mapping[str, Any]) -> SecantBatch:
    secants = {
        branch: tuple(_secant(secant) for secant in measured)
        for branch, measured in value["secants"].items()
    }
    return SecantBatch(
        value["steps"],
        value["evaluations"],
        value["dtype"],
        secants,
        tuple(value["tau"]),
        tuple(tuple(row) for row in value["distances"]),
    )


def _secant(value: Mapping[str, Any]) -> Secant:
    per_clip = (tuple(value[name]) for name in ("a_x", "a_t", "margin"))
    return Secant(value["tau"], value["next_tau"], *per_clip)
