"""Measured prompts on disk, so that a measurement that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@dataclass(frozen=True)
class KeptPrompts:
    """A file of JSON lines: the settings, then one line per prompt or group of prompts.

    Attributes:
        path: Of the file.
        settings: JSON values that decide what is measured.
    """

    path: Path
    settings: Mapping[str, Any]

    def read(self) -> list[Any]:
        """What earlier starts measured; begins the file if there is none.

        Raises:
            UserError: The file is of other settings.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.write_text(json.dumps(self.settings) + "\n")
            return []
        first, *lines = self.path.read_text().splitlines(keepends=True)
        if json.loads(first) != json.loads(json.dumps(self.settings)):
            raise UserError(f"--partial {self.path} is of other settings: name another file")
        # A line without its end was being written when the measurement was interrupted.
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            self.path.write_text(first + "".join(whole))
        return [json.loads(line) for line in whole]

    def add(self, measured: Any) -> None:
        """Keep a further line."""
        with self.path.open("a") as file:
            file.write(json.dumps(measured) + "\n")
