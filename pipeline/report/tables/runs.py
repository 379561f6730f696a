"""The runs into a prefix: how each ended, and how many rows it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.dataset.manifest import status_of
from pipeline.dataset.parts import missing_parts, part_files
from pipeline.errors import StorageError
from pipeline.report.document import RunEntry
from pipeline.report.rows import Rows
from pipeline.storage.storage import Storage


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
) -> dict[str, list[int]]:
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
    lost: Mapping[str, Sequence[int]],
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
        found.append(
            RunEntry(
                run_id=run_id,
                state=_state(run_id, manifest),
                started_at=manifest.get("started_at", ""),
                ended_at=manifest.get("ended_at", ""),
                rows=written.get(run_id, 0),
                wanted=wanted if isinstance(wanted, int) else None,
                lost_parts=len(lost.get(run_id, ())),
            )
        )
    return found


def _state(run_id: str, manifest: Mapping[str, Any]) -> str:
    """How a run ended. A driver that was killed leaves a record that says it runs."""
    state = str(manifest.get("state", "unknown"))
    if state == "running" and not status_of(run_id, manifest).alive:
        return "killed"
    return state
