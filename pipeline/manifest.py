"""The record of one run: `runs/{run_id}.json`, written at its start and again at its end."""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from pipeline.schema import versions
from pipeline.storage import Storage

State = Literal["running", "done", "interrupted", "error"]

_TIMED = re.compile(r"\d{8}T\d{6}Z-")


def new_run_id(storage: Storage, environment: Mapping[str, str] = os.environ) -> str:
    """Name a run: sortable by time, and unique in its prefix.

    In a Ray job the name is the job's submission id, so that job, logs and output carry one name;
    the time is put before it unless it begins with one. An id that this prefix has seen already
    (the same job again on another cluster) gets a few random digits more: runs that share a name
    would replace each other's parts. Outside of a job: `20260131T235959Z-1a2b3c`.

    Args:
        storage: The output prefix.
        environment: Of the process; Ray describes the job there.

    Raises:
        StorageError: The prefix cannot be read.
    """
    now = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    job = _submission_id(environment)
    if not job:
        return f"{now}-{secrets.token_hex(3)}"
    run_id = job if _TIMED.match(job) else f"{now}-{job}"
    if storage.exists(f"runs/{run_id}.json"):
        return f"{run_id}-{secrets.token_hex(3)}"
    return run_id


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


def _submission_id(environment: Mapping[str, str]) -> str:
    """Of the Ray job (2.60) that this process is the driver of, "" if of none, in safe characters.

    Ray has no call for it that works before `ray.init`.
    """
    try:
        job = json.loads(environment.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))
        return re.sub(r"[^A-Za-z0-9_-]+", "-", job["metadata"]["job_submission_id"])[:100]
    except (ValueError, KeyError, TypeError):
        return ""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
