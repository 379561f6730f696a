"""The runs into a prefix: how each ended, and how many rows it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.config.run_command import run_command
from pipeline.dataset.manifest import status_of
from pipeline.dataset.parts import PartName, missing_parts, part_files
from pipeline.errors import StorageError
from pipeline.report.document import RunEntry
from pipeline.report.rows import Rows
from pipeline.storage.storage import Storage
from pipeline.wording import counted

_COUNTED = ("ok", "failed", "rejected")
"""What a run counts in its `result`; each is a row."""


def read_manifests(storage: Storage) -> dict[str, dict[str, Any]]:
    """Read the manifests of all runs by run id.

    Raises:
        StorageError: One is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in storage.list("runs/"):
        name = entry.key.rpartition("/")[2].removesuffix(".json")
        if not entry.key.endswith(".json") or "." in name:
            continue
        try:
            value = json.loads(storage.read_bytes(entry.key))
        except ValueError as error:
            raise StorageError(f"{storage.uri}/{entry.key} is damaged: {error}") from error
        if isinstance(value, dict):
            found[name] = value
    return found


def lost_parts(
    storage: Storage, manifests: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[PartName]]:
    """The parts that are gone, by run; see `pipeline.dataset.parts.missing_parts`.

    A manifest that does not tell how its run stands counts as none.

    Raises:
        StorageError: The prefix cannot be listed.
    """
    runs = []
    for run_id, manifest in manifests.items():
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            runs.append(status_of(run_id, manifest))
    return missing_parts(part_files(storage), runs)


def run_entries(
    rows: Rows,
    manifests: Mapping[str, Mapping[str, Any]],
    lost: Mapping[str, Sequence[PartName]],
) -> list[RunEntry]:
    """The runs that wrote rows, lost parts or left a manifest, in the order of their ids.

    Args:
        rows: Of the prefix.
        manifests: By run id.
        lost: Numbers of the parts that are gone, by run id.
    """
    codes, values = rows.codes("run_id")
    written = dict(zip(values, np.bincount(codes, minlength=len(values)).tolist(), strict=True))
    written = {name: count for name, count in written.items() if count}
    found = []
    for run_id in sorted({*written, *manifests, *lost}):
        manifest = manifests.get(run_id, {})
        wanted = manifest.get("input", {}).get("pending")
        config = manifest.get("config") or {}
        by_program = "prompts" in config and not manifest.get("input")
        found.append(
            RunEntry(
                run_id=run_id,
                state=_state(run_id, manifest),
                started_at=manifest.get("started_at", ""),
                ended_at=manifest.get("ended_at", ""),
                rows=written.get(run_id, 0),
                wanted=wanted if isinstance(wanted, int) else None,
                lost_parts=len(lost.get(run_id, ())),
                lost_rows=_lost_rows(manifest, written.get(run_id, 0)),
                command="" if by_program else run_command(config, rows.storage.uri),
                by_program=by_program,
            )
        )
    return found


def lost_rows_notes(runs: Sequence[RunEntry]) -> list[str]:
    """Say which runs counted more rows than there are, where only that shows a loss."""
    return [
        f"Run {run.run_id} counted {counted(run.lost_rows, 'row', grouped=True)} more than "
        "there are: parts of them are missing, whose names an older version did not record. The "
        "same command makes the samples again."
        for run in runs
        if run.lost_rows and not run.lost_parts
    ]


def _lost_rows(manifest: Mapping[str, Any], rows: int) -> int:
    """How many rows of a run are gone, by what it counted; 0 where it recorded its parts."""
    if manifest.get("parts") is not None or manifest.get("state") != "done":
        return 0
    result = manifest.get("result") or {}
    return max(0, sum(int(result.get(name) or 0) for name in _COUNTED) - rows)


def _state(run_id: str, manifest: Mapping[str, Any]) -> str:
    """How a run ended. A driver that was killed leaves a record that says it runs."""
    state = str(manifest.get("state", "unknown"))
    if state == "running" and not status_of(run_id, manifest).alive:
        return "killed"
    return state
