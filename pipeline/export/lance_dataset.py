"""Lance: a dataset per split that readers open in place, with videos and tensors as columns.

A shard is one data file. Its record, `fragments/….json`, is stored after it, so a shard whose
record exists is complete. The manifest that makes a dataset of the files is written last. Data
files have random names, so two exports of the same rows differ in bytes, but not in rows. Needs
the library `lance` of the extra `lance`. Written against pylance 14.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.dataset.schema import SCHEMA
from pipeline.errors import UserError
from pipeline.export.select import Shard
from pipeline.export.whole_clip import WholeClip
from pipeline.storage.storage import Storage

_ROWS = pa.schema([field for field in SCHEMA if field.name not in ("video", "caption")])


def check_lance() -> None:
    """Refuse the format where its library is not installed.

    Raises:
        UserError: With what to install.
    """
    if importlib.util.find_spec("lance") is None:
        raise UserError(
            "--format lance needs pylance (85 MB): pip install 'sencache-pipeline[lance]'"
        )


def lance_schema(*, tensors: bool) -> pa.Schema:
    """The columns: `video`, `caption`, those of rows, and `safetensors` where clips have any."""
    own = [pa.field("video", pa.large_binary()), pa.field("caption", pa.string()), *_ROWS]
    return pa.schema([*own, pa.field("safetensors", pa.large_binary())] if tensors else own)


def lance_keys(shard: Shard) -> list[str]:
    """The record of a shard."""
    return [f"fragments/{shard.label}-{shard.number:05d}-of-{shard.of:05d}.json"]


def write_lance(
    storage: Storage,
    shard: Shard,
    rows: Sequence[Mapping[str, Any]],
    media: Mapping[str, WholeClip],
) -> None:
    """Store the data file of a shard, and then its record."""
    from lance.fragment import write_fragments

    (key,) = lance_keys(shard)
    if storage.exists(key):  # some of its clips were damaged, and may be whole by now
        for old in json.loads(storage.read_bytes(key)):
            for file in old["files"]:
                storage.delete(f"{shard.split}.lance/data/{file['path']}")
    cells = [
        dict(row)
        | {
            "video": media[row["sample_id"]].mp4,
            "caption": shard.caption(row),
            "safetensors": media[row["sample_id"]].tensors,
        }
        for row in rows
    ]
    schema = lance_schema(tensors=shard.tensors)
    table = pa.Table.from_pylist(cells, schema=schema)
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        place = Path(folder) / "clips.lance"
        fragments = write_fragments(
            table, str(place), schema=schema, max_rows_per_file=max(1, len(cells))
        )
        for path in sorted((place / "data").glob("*.lance")):
            storage.put_file(f"{shard.split}.lance/data/{path.name}", path)
    record = [each.to_json() for each in fragments]
    storage.put_bytes(key, (json.dumps(record) + "\n").encode())


def finish_lance(storage: Storage, shards: Sequence[Shard], lost: Collection[str]) -> None:
    """Store the manifest of each split's dataset."""
    from lance import LanceDataset, LanceOperation
    from lance.fragment import FragmentMetadata

    for split in dict.fromkeys(shard.split for shard in shards):
        own = [shard for shard in shards if shard.split == split]
        found = [
            FragmentMetadata.from_json(json.dumps(each))
            for shard in own
            for each in json.loads(storage.read_bytes(lance_keys(shard)[0]))
        ]
        for old in storage.list(f"{split}.lance/_transactions/"):
            storage.delete(old.key)
        schema = lance_schema(tensors=own[0].tensors)
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            place = Path(folder) / "clips.lance"
            LanceDataset.commit(str(place), LanceOperation.Overwrite(schema, found))
            files = sorted(path for path in place.rglob("*") if path.is_file())
            for path in files:  # `_transactions` before `_versions`, which makes it visible
                storage.put_file(f"{split}.lance/{path.relative_to(place).as_posix()}", path)
