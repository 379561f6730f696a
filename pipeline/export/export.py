"""Writes the missing shards of an export and checks every clip against the hash in its row.

A shard is stored whole or not at all, so a shard that exists is complete. `export.json` is written
before the first shard and identifies the selection; another selection for the same target is
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.errors import UserError
from pipeline.export.formats import FORMATS
from pipeline.export.select import Selection, Shard
from pipeline.storage.storage import Storage

RECORD_KEY = "export.json"
READ_THREADS = 16


def export(
    source: Storage,
    target: Storage,
    selection: Selection,
    format_name: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the missing shards of a selection.

    Args:
        source: The output prefix that holds the media.
        target: Where the export goes; may hold a part of the same export.
        selection: The result of `select`.
        format_name: One of `FORMATS`.
        progress: Called with the number of shards done and the number of all shards.

    Returns:
        The number of shards that were written by this call.

    Raises:
        UserError: The target holds another export, or a clip does not match the hash in its row.
        StorageError: A file cannot be read or written.
    """
    form = FORMATS[format_name]
    _claim(target, {"format": format_name, "fingerprint": selection.fingerprint})
    there = {entry.key for entry in target.list()}
    written = 0
    for done, shard in enumerate(selection.shards, 1):
        if not there.issuperset(form.keys(shard)):
            form.write(target, shard, _media(source, shard))
            written += 1
        progress(done, len(selection.shards))
    form.finish(target, selection.shards)
    return written


def _claim(target: Storage, record: Mapping[str, Any]) -> None:
    if target.exists(RECORD_KEY):
        try:
            known = json.loads(target.read_bytes(RECORD_KEY))
        except ValueError:
            known = None
        if known != record:
            raise UserError(
                f"{target.uri} holds another export (its rows, filter, splits, shard size or "
                "format differ): choose another --to, or delete it"
            )
        return
    target.check_writable()
    target.put_bytes(RECORD_KEY, (json.dumps(record, indent=1) + "\n").encode())


def _media(source: Storage, shard: Shard) -> dict[str, bytes]:
    def read(row: Mapping[str, Any]) -> tuple[str, bytes]:
        data = source.read_bytes(row["video"]["path"])
        if hashlib.sha256(data).hexdigest() != row["media_sha256"]:
            raise UserError(
                f"{source.uri}/{row['video']['path']} is not the clip of its row (its SHA-256 "
                "differs): make it again, or leave it out with --where"
            )
        return row["sample_id"], data

    with ThreadPoolExecutor(READ_THREADS) as pool:
        return dict(pool.map(read, shard.rows))
