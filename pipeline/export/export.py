"""Writes the missing shards of an export and checks every clip against the hash in its row.

A shard is stored whole or not at all, so a shard that exists is complete. `export.json` is written
before the first shard and identifies the selection; another selection for the same target is
refused. A clip that is missing or damaged is left out, and `damaged.json` names it; its shard is
written again by the next call, in case the clip is whole by then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.whole_clips import DamagedClipError
from pipeline.errors import UserError
from pipeline.export.formats import FORMATS
from pipeline.export.select import Selection
from pipeline.export.whole_clip import WholeClip, read_whole
from pipeline.storage.storage import Storage

RECORD_KEY = "export.json"
DAMAGED_KEY = "damaged.json"
READ_THREADS = 16


@dataclass(slots=True)
class Exported:
    """What an export did.

    Attributes:
        written: Shards that this call wrote.
        damaged: Clips that are left out: id to what is wrong with it.
    """

    written: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


def export(
    source: Storage,
    target: Storage,
    selection: Selection,
    format_name: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the missing shards of a selection.

    Args:
        source: The output prefix that holds the media.
        target: Where the export goes; may hold a part of the same export.
        selection: The result of `select`.
        format_name: One of `FORMATS`.
        progress: Called with the number of shards done and the number of all shards.

    Raises:
        UserError: The target holds another export.
        StorageError: A store cannot be read or written.
    """
    form = FORMATS[format_name]
    _claim(target, {"format": format_name, "fingerprint": selection.fingerprint})
    there = {entry.key for entry in target.list()}
    before = json.loads(target.read_bytes(DAMAGED_KEY)) if DAMAGED_KEY in there else {}
    done = Exported(damaged=dict(before))
    for number, shard in enumerate(selection.shards, 1):
        again = not before.keys().isdisjoint(shard.ids) if before else False
        if again or not there.issuperset(form.keys(shard)):
            rows = shard.rows()
            media, damaged = _media(source, rows, tensors=shard.tensors)
            known = {i: text for i, text in done.damaged.items() if i not in media}
            if known | damaged != done.damaged:
                # Before the shard: one that lacks a clip must never look complete.
                if damaged:
                    _record(target, done.damaged | damaged)
                done.damaged = known | damaged
            form.write(target, shard, [row for row in rows if row["sample_id"] in media], media)
            done.written += 1
        progress(number, len(selection.shards))
    form.finish(target, selection.shards, done.damaged)
    if done.damaged or before:
        _record(target, done.damaged)
    return done


def _record(target: Storage, damaged: Mapping[str, str]) -> None:
    if damaged:
        text = json.dumps(damaged, indent=1, sort_keys=True) + "\n"
        target.put_bytes(DAMAGED_KEY, text.encode())
    else:
        target.delete(DAMAGED_KEY)


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


def _media(
    source: Storage, rows: list[dict[str, Any]], *, tensors: bool
) -> tuple[dict[str, WholeClip], dict[str, str]]:
    """Read the clips of rows: the files of the whole ones, and the problems of the others."""

    def read(row: Mapping[str, Any]) -> WholeClip | str:
        try:
            return read_whole(source, row, tensors=tensors)
        except DamagedClipError as error:
            return str(error)

    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = dict(zip((r["sample_id"] for r in rows), pool.map(read, rows), strict=True))
    whole = {name: data for name, data in found.items() if isinstance(data, WholeClip)}
    return whole, {name: text for name, text in found.items() if isinstance(text, str)}
