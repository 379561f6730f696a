"""Writes the missing shards of an export and checks every clip against the hash in its row.

A shard is stored whole or not at all, so a shard that exists is complete. `export.json` is written
before the first shard and identifies the selection; another selection for the same target is
refused, and so is a target without this record that holds files of names that the export would
write. A clip that is missing or damaged is left out, and `damaged.json` names it; its shard is
written again by the next call, in case the clip is whole by then. It may have been made again, with
other bytes: `export.json` keeps what its row said, and the next call compares the others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.dataset.whole_clips import DamagedClipError
from pipeline.errors import UserError
from pipeline.export.fingerprint import ExportRecord, FingerprintedClip, fingerprint
from pipeline.export.formats import FORMATS
from pipeline.export.mixed_settings import ExportedSettings, exported_settings
from pipeline.export.select import Selection
from pipeline.export.whole_clip import WholeClip, read_whole
from pipeline.storage.storage import Storage
from pipeline.wording import counted, listed

RECORD_KEY = "export.json"
DAMAGED_KEY = "damaged.json"
READ_THREADS = 16
MOST_NAMED = 3
"""Files of somebody else that a message names."""


@dataclass(slots=True)
class Exported:
    """What an export did.

    Attributes:
        written: Shards that this call wrote.
        damaged: Clips that are left out: id to what is wrong with it.
        damaged_by_split: How many of these would be in each split.
        damaged_with_tensors: How many of these have tensors that would be exported.
        damaged_with_prompt: How many of these would keep their prompt for want of a new caption.
        settings: Kinds of the clips that it holds.
    """

    written: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    damaged_by_split: Counter[str] = field(default_factory=Counter)
    damaged_with_tensors: int = 0
    damaged_with_prompt: int = 0
    settings: ExportedSettings = field(default_factory=ExportedSettings)


def export(
    source: Storage,
    target: Storage,
    selection: Selection,
    format_name: str,
    *,
    missing_parts: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the missing shards of a selection.

    Args:
        source: The output prefix that holds the media.
        target: Where the export goes; may hold a part of the same export.
        selection: The result of `select`.
        format_name: One of `FORMATS`.
        missing_parts: Parts of the source's rows that are missing; the record keeps their number.
        progress: Called with the number of shards done and the number of all shards.

    Raises:
        UserError: The target holds another export, or files of somebody else in its way.
        StorageError: A store cannot be read or written.
    """
    form = FORMATS[format_name]
    record = _claim(target, format_name, selection, missing_parts)
    there = {entry.key for entry in target.list()}
    before = json.loads(target.read_bytes(DAMAGED_KEY)) if DAMAGED_KEY in there else {}
    lacking = before.keys() | record.left_out.keys()
    left_out: dict[str, FingerprintedClip] = {}
    done = Exported(damaged=dict(before))
    for number, shard in enumerate(selection.shards, 1):
        again = not lacking.isdisjoint(shard.ids) if lacking else False
        if again or not there.issuperset(form.keys(shard)):
            rows = shard.rows()
            media, damaged = _media(source, rows, tensors=shard.tensors)
            for row in rows:
                if row["sample_id"] in damaged:
                    left_out[row["sample_id"]] = FingerprintedClip.of(row, shard)
                    done.damaged_by_split[shard.split] += 1
                    tensors = (row["tensors"] or {}).get("sha256")
                    done.damaged_with_tensors += shard.tensors and bool(tensors)
                    done.damaged_with_prompt += shard.recaptions and not row["recaption"]
            known = {i: text for i, text in done.damaged.items() if i not in media}
            if known | damaged != done.damaged:
                # Before the shard: one that lacks a clip must never look complete.
                if damaged:
                    # Of clips that were left out before, the fingerprint has what they were then.
                    record = replace(record, left_out={**left_out, **record.left_out})
                    target.put_bytes(RECORD_KEY, record.dump())
                    _record(target, done.damaged | damaged)
                done.damaged = known | damaged
            form.write(target, shard, [row for row in rows if row["sample_id"] in media], media)
            done.written += 1
        progress(number, len(selection.shards))
    form.finish(target, selection.shards, done.damaged)
    done.settings = exported_settings(selection.spool, done.damaged)
    kinds = done.settings.record()
    if left_out or lacking:  # from here on, what was taken in must not change either
        fresh = fingerprint(selection)
        record = replace(record, fingerprint=fresh, left_out=left_out, settings=kinds)
        target.put_bytes(RECORD_KEY, record.dump())
    elif kinds != list(record.settings):
        target.put_bytes(RECORD_KEY, replace(record, settings=kinds).dump())
    if done.damaged or before:
        _record(target, done.damaged)
    return done


def _record(target: Storage, damaged: Mapping[str, str]) -> None:
    if damaged:
        text = json.dumps(damaged, indent=1, sort_keys=True) + "\n"
        target.put_bytes(DAMAGED_KEY, text.encode())
    else:
        target.delete(DAMAGED_KEY)


def _claim(
    target: Storage, format_name: str, selection: Selection, missing_parts: int
) -> ExportRecord:
    """Return the record of a target, and store what it lacks."""
    if not target.exists(RECORD_KEY):
        _refuse_foreign(target, format_name, selection)
        target.check_writable()
        record = ExportRecord(format_name, fingerprint(selection), missing_parts=missing_parts)
        target.put_bytes(RECORD_KEY, record.dump())
        return record
    try:
        known = ExportRecord.parse(target.read_bytes(RECORD_KEY))
    except ValueError:
        raise _foreign(target, [RECORD_KEY]) from None
    if not known.fits(format_name, selection):
        made, choose = "", "another --to, or delete it"
        if known.missing_parts:
            parts = counted(known.missing_parts, "part", grouped=True)
            were = "was" if known.missing_parts == 1 else "were"
            made = f", made while {parts} of the rows {were} missing"
            choose = "a new folder as --to, or delete this one"
        raise UserError(
            f"{target.uri} holds another export{made} (its rows, filter, splits, shard size or "
            f"format differ): choose {choose}"
        )
    if known.missing_parts != missing_parts:
        known = replace(known, missing_parts=missing_parts)
        target.put_bytes(RECORD_KEY, known.dump())
    return known


def _refuse_foreign(target: Storage, format_name: str, selection: Selection) -> None:
    """Refuse a target that no export has begun, and that holds files of names of this one."""
    form, splits = FORMATS[format_name], {shard.split for shard in selection.shards}
    keys = [entry.key for entry in target.list()]
    if foreign := [key for key in keys if key == DAMAGED_KEY or form.is_named(key, splits)]:
        raise _foreign(target, foreign)


def _foreign(target: Storage, keys: list[str]) -> UserError:
    names, more = keys[:MOST_NAMED], len(keys) - MOST_NAMED
    if more > 0:
        names.append(counted(more, "more file", grouped=True))
    it = "it" if len(keys) == 1 else "them"
    return UserError(
        f"{target.uri} holds {listed(names)}, which no export has written and this one would "
        f"replace or mix with its own: choose an empty folder or prefix as --to, or move {it} away"
    )


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
