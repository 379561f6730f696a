"""The fingerprint of an export, and the record that keeps it beside the files.

The record also keeps what the rows of left-out clips said when the export was written. No file of
the export depends on these clips, so they may be made again and change before they are taken in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.export.select import Selection, Shard
from pipeline.requests.sample_request import digest


@dataclass(frozen=True, slots=True)
class FingerprintedClip:
    """What a fingerprint takes of a clip, beside its id and its place.

    Attributes:
        files: SHA-256 of its mp4, and of its tensors if they are exported.
        recaption: Digest of the caption that was written from its frames; "" if it is not exported.
    """

    files: str
    recaption: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any], shard: Shard) -> FingerprintedClip:
        """Take it from an output row of a shard."""
        tensors = (row["tensors"] or {}).get("sha256") if shard.tensors else ""
        recaption = _recaption(row["recaption"] or "") if shard.recaptions else ""
        return cls(_files(row["media_sha256"], tensors or ""), recaption)


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What identifies an export; stored before its first shard.

    Attributes:
        format: Name of the format.
        fingerprint: Of the selection.
        left_out: Clips that were damaged, by id, as they are in the fingerprint.
        settings: Kinds of its clips, where they were made with several settings.
        missing_parts: Parts of the prefix's rows that were missing when it was last written.
    """

    format: str
    fingerprint: str
    left_out: Mapping[str, FingerprintedClip] = field(default_factory=dict)
    settings: Sequence[Mapping[str, Any]] = ()
    missing_parts: int = 0

    @classmethod
    def parse(cls, data: bytes) -> ExportRecord:
        """Read a stored record.

        Raises:
            ValueError: The data is no record.
        """
        try:
            found = json.loads(data)
            clips = found.get("left_out", {}).items()
            left_out = {name: FingerprintedClip(**clip) for name, clip in clips}
            settings = found.get("settings", ())
            missing = found.get("missing_parts", 0)
            return cls(found["format"], found["fingerprint"], left_out, settings, missing)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("no record of an export") from error

    def dump(self) -> bytes:
        """Return what is stored."""
        record = {"format": self.format, "fingerprint": self.fingerprint}
        left_out = {name: asdict(clip) for name, clip in sorted(self.left_out.items())}
        more: dict[str, Any] = {"settings": list(self.settings)} if self.settings else {}
        more |= {"missing_parts": self.missing_parts} if self.missing_parts else {}
        more |= {"left_out": left_out} if left_out else {}
        return (json.dumps(record | more, indent=1) + "\n").encode()

    def fits(self, format_name: str, selection: Selection) -> bool:
        """Whether this is the record of a selection, whatever became of its left-out clips."""
        if self.format != format_name:
            return False
        return self.fingerprint == fingerprint(selection, self.left_out)


def fingerprint(
    selection: Selection, earlier: Mapping[str, FingerprintedClip] | None = None
) -> str:
    """Return a digest of ids, hashes, splits, shards and new captions of a selection.

    Args:
        selection: The result of `select`.
        earlier: Clips that are taken as they were, by id.
    """
    found, heads, known = hashlib.sha256(), selection.spool.heads(), earlier or {}
    for shard in selection.shards:
        found.update(f"{shard.label}/{shard.number}/{shard.of}\n".encode())
        for _, _, sample_id, sha256, tensors, _ in itertools.islice(heads, shard.clips):
            was = known.get(sample_id)
            files = was.files if was else _files(sha256, tensors if shard.tensors else "")
            found.update(f"{sample_id} {files}\n".encode())
    if any(shard.recaptions for shard in selection.shards):
        # They are in the files, and may change while an export is interrupted.
        for sample_id, text in selection.spool.recaptions():
            was = known.get(sample_id)
            found.update(f"{was.recaption if was else _recaption(text)}\n".encode())
    return found.hexdigest()


def _files(sha256: str | None, tensors: str) -> str:
    return f"{sha256} {tensors}" if tensors else f"{sha256}"


def _recaption(text: str) -> str:
    return digest(["recaption", text]).hex()
