"""The record of one run: `runs/{run_id}.json`, written at its start and again at its end."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.schema import versions
from pipeline.storage import Storage

State = Literal["running", "done", "interrupted", "error"]


def new_run_id() -> str:
    """Sortable by time, unique without coordination: `20260131T235959Z-1a2b3c`."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(slots=True)
class Manifest:
    """What ran, on what, and how it ended.

    A manifest that still says `running` belongs to a run that is alive or was killed.

    Attributes:
        run_id: See `new_run_id`.
        config: The resolved configuration.
        input: Counts of the input: rows read, duplicates, rejected, already done, to make.
        state: How it ended.
        result: Counts and sums of what was made.
        error: One line if `state` is `error`.
        started_at: ISO time, UTC.
        ended_at: ISO time, UTC; "" while running.
        versions: Library versions of the driver.
    """

    run_id: str
    config: Mapping[str, Any]
    input: Mapping[str, Any]
    state: State = "running"
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    started_at: str = field(default_factory=lambda: _now())
    ended_at: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)

    def write(self, storage: Storage) -> None:
        """Put the manifest as it is now.

        Raises:
            StorageError: The prefix cannot be written.
        """
        text = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        storage.put_bytes(f"runs/{self.run_id}.json", text.encode())

    def end(
        self, storage: Storage, state: State, result: Mapping[str, Any], error: str = ""
    ) -> None:
        """Record the outcome."""
        self.state, self.result, self.error, self.ended_at = state, result, error, _now()
        self.write(storage)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
