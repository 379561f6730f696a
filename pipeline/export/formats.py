"""The export formats: how each writes a shard. The bytes depend on nothing but the shard."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.mp4 import row_json
from pipeline.dataset.schema import SCHEMA
from pipeline.export.fastvideo import (
    finish_tensors,
    tensors_keys,
    write_latents,
    write_trajectories,
)
from pipeline.export.index import content_name
from pipeline.export.lance_dataset import check_lance, finish_lance, lance_keys, write_lance
from pipeline.export.mixed_settings import exported_settings
from pipeline.export.select import Shard
from pipeline.export.whole_clip import WholeClip
from pipeline.redaction import shown
from pipeline.report.card import plain
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import LATENTS, TEXT_EMBEDS, TRAJECTORY
from pipeline.wording import TO_DECODE, counted, quoted

TENSORS_COLUMN = "safetensors"
"""Column of Hub shards with the file of a clip's tensors; there where some clip has any."""

ROW_GROUP_CLIPS = 100
"""Clips per row group, with their bytes: readers fetch whole groups."""

Media = Mapping[str, WholeClip]
"""The files of each clip by sample id."""

Rows = Sequence[Mapping[str, Any]]
"""Rows of a shard whose clips are whole."""

Lost = Collection[str]
"""Ids of the clips that are left out."""


@dataclass(frozen=True, slots=True)
class Format:
    """One export format.

    Attributes:
        help: Description for the command line.
        keys: Returns the files of a shard; the shard is complete if all of them exist.
        write: Stores the files of a shard.
        finish: Stores the files that describe the whole export; called last.
        names: Globs of the files that it stores, or that its readers take for its own; `{split}`
            is the name of a split.
        tensors: Whether it holds the tensors of clips, where they have any.
        needs: Kinds of tensors that each of its clips must have.
        buckets: Whether its shards can hold clips of one bucket each.
        check: Raises `UserError` where this installation cannot write it.
    """

    help: str
    keys: Callable[[Shard], list[str]]
    write: Callable[[Storage, Shard, Rows, Media], None]
    finish: Callable[[Storage, Sequence[Shard], Lost], None]
    names: tuple[str, ...]
    tensors: bool = True
    needs: tuple[str, ...] = ()
    buckets: bool = True
    check: Callable[[], None] = lambda: None

    def is_named(self, key: str, splits: Collection[str]) -> bool:
        """Whether a key is one that an export with these splits stores or its readers take."""
        globs = (name.format(split=split) for name in self.names for split in splits)
        return any(PurePosixPath(f"/{key}").match(f"/{glob}") for glob in globs)


def _without_media(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON values, without its media.

    Seeds are decimal digits, like those of the index: `datasets` takes whole numbers for signed
    64-bit ones, and one seed of 2^63 or more would make all shards unreadable.
    """
    value: dict[str, Any] = json.loads(row_json({k: v for k, v in row.items() if k != "video"}))
    for each in (value, *(value.get("drafts") or ())):
        if each.get("seed_u64") is not None:
            each["seed_u64"] = str(each["seed_u64"])
    return value


def _tar_keys(shard: Shard) -> list[str]:
    return [f"{shard.label}-{shard.number:05d}.tar"]


def _write_tar(storage: Storage, shard: Shard, rows: Rows, media: Media) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            name = row["sample_id"]
            clip = media[name]
            text = json.dumps(_without_media(row), sort_keys=True).encode()
            for suffix, data in (
                ("json", text),
                ("mp4", clip.mp4),
                ("safetensors", clip.tensors),
                ("txt", shard.caption(row).encode()),
            ):
                if data is None:
                    continue
                entry = tarfile.TarInfo(f"{name}.{suffix}")
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
    storage.put_bytes(_tar_keys(shard)[0], out.getvalue())


def _finish_tar(storage: Storage, shards: Sequence[Shard], lost: Lost) -> None:
    sizes = {_tar_keys(shard)[0]: _clips(shard, lost) for shard in shards}
    storage.put_bytes("shards.json", (json.dumps(sizes, indent=1) + "\n").encode())


def _parquet_keys(shard: Shard) -> list[str]:
    return [f"data/{shard.label}-{shard.number:05d}-of-{shard.of:05d}.parquet"]


def _write_parquet(storage: Storage, shard: Shard, rows: Rows, media: Media) -> None:
    whole = [
        dict(row)
        | {"video": {"bytes": media[row["sample_id"]].mp4, "path": f"{row['sample_id']}.mp4"}}
        | {TENSORS_COLUMN: media[row["sample_id"]].tensors}
        for row in rows
    ]
    out = io.BytesIO()
    schema = SCHEMA.append(pa.field(TENSORS_COLUMN, pa.binary())) if shard.tensors else SCHEMA
    table = pa.Table.from_pylist(whole, schema=schema)
    pq.write_table(table, out, row_group_size=ROW_GROUP_CLIPS, compression="zstd")
    storage.put_bytes(_parquet_keys(shard)[0], out.getvalue())


def _finish_parquet(storage: Storage, shards: Sequence[Shard], lost: Lost) -> None:
    import yaml

    splits = list(dict.fromkeys(shard.split for shard in shards))
    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]
    front = {
        "task_categories": ["text-to-video"],
        "tags": ["synthetic", "video"],
        "configs": [
            {
                "config_name": "default",
                "description": content_name(_contents(storage, shards)),
                "data_files": files,
            }
        ],
    }
    counts = {
        name: sum(_clips(shard, lost) for shard in shards if shard.split == name) for name in splits
    }
    text = "---\n" + yaml.safe_dump(front, sort_keys=False) + "---\n# Synthetic clips\n\n"
    text += "".join(
        f"- `{name}`: {counted(count, 'clip', grouped=True)}\n" for name, count in counts.items()
    )
    if shards and (kinds := exported_settings(shards[0].spool, lost)).is_mixed:
        text += f"\n{kinds.heading()} To export one kind alone, give its condition:\n\n"
        each = kinds.lines(_flag, plain)
        text += "".join(f"- {line}\n" for line in each)
    text += "\nVideo bytes are inline; every row says model, seed, settings, cache and cost. "
    text += f"{TO_DECODE}\n"
    if any(shard.tensors for shard in shards):
        text += (
            f"Column {TENSORS_COLUMN}: what --save stored, latents as the decoder takes them, text "
            "embeddings or trajectories; its metadata says how to normalise latents.\n"
        )
    storage.put_bytes("README.md", text.encode())


def _flag(condition: str) -> str:
    """The flag of a condition in a card."""
    flag = f"--where {quoted(condition)}"
    return plain(flag) if "`" in flag else f"`{shown(flag)}`"


def _contents(storage: Storage, shards: Sequence[Shard]) -> Iterator[str]:
    """What an export of Parquet holds: its files and their sizes, and its clips."""
    for entry in storage.list("data/"):
        yield f"{entry.key} {entry.size}"
    for shard in shards:
        yield from shard.ids


def _folder_keys(shard: Shard) -> list[str]:
    return [_video_key(shard, sample_id) for sample_id in shard.ids]


def _video_key(shard: Shard, sample_id: str) -> str:
    return f"{shard.split}/videos/{sample_id}.mp4"


def _write_folder(storage: Storage, shard: Shard, rows: Rows, media: Media) -> None:
    for row in rows:
        storage.put_bytes(_video_key(shard, row["sample_id"]), media[row["sample_id"]].mp4)


def _finish_folder(storage: Storage, shards: Sequence[Shard], lost: Lost) -> None:
    for name in dict.fromkeys(shard.split for shard in shards):
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            path = Path(folder) / "videos2caption.json"
            with path.open("w", encoding="utf-8") as out:
                _captions(out, [shard for shard in shards if shard.split == name], lost)
            storage.put_file(f"{name}/videos2caption.json", path)


def _captions(out: TextIO, shards: Sequence[Shard], lost: Lost) -> None:
    """Write FastVideo's list of clips as one JSON array, shard by shard."""
    between = "[\n"
    for shard in shards:
        for row in shard.rows():
            if row["sample_id"] in lost:
                continue
            entry = {
                "path": f"{row['sample_id']}.mp4",
                "resolution": {"width": row["width"], "height": row["height"]},
                "size": row["media_bytes"],
                "fps": float(row["fps"]),
                "duration": row["duration_s"],
                "num_frames": row["num_frames"],
                "cap": [shard.caption(row)],
            }
            out.write(between + json.dumps(entry, ensure_ascii=False))
            between = ",\n"
    out.write("[]\n" if between == "[\n" else "\n]\n")


def _clips(shard: Shard, lost: Lost) -> int:
    """Number of the clips of a shard that are there."""
    return shard.clips - sum(sample_id in lost for sample_id in shard.ids) if lost else shard.clips


_TENSOR_FILES = ("{split}/*.parquet", "{split}/*/*.parquet")

FORMATS: Mapping[str, Format] = {
    "webdataset": Format(
        "tar shards with ID.mp4, ID.txt, ID.json and ID.safetensors",
        _tar_keys,
        _write_tar,
        _finish_tar,
        ("{split}-*.tar", "shards.json"),
    ),
    "hub": Format(
        "Parquet with video and tensor bytes inline and a card",
        _parquet_keys,
        _write_parquet,
        _finish_parquet,
        ("data/{split}-*.parquet", "README.md"),
    ),
    "fastvideo": Format(
        "a folder of videos and videos2caption.json per split",
        _folder_keys,
        _write_folder,
        _finish_folder,
        ("{split}/videos/*.mp4", "{split}/videos2caption.json"),
        tensors=False,
        buckets=False,
    ),
    "fastvideo-latents": Format(
        "FastVideo's preprocessed Parquet: latents and text embeddings, no video",
        tensors_keys,
        write_latents,
        finish_tensors,
        _TENSOR_FILES,
        needs=(LATENTS, TEXT_EMBEDS),
    ),
    "fastvideo-trajectories": Format(
        "FastVideo's Parquet for distillation: trajectories and text embeddings, no video",
        tensors_keys,
        write_trajectories,
        finish_tensors,
        _TENSOR_FILES,
        needs=(TEXT_EMBEDS, TRAJECTORY),
    ),
    "lance": Format(
        "a Lance dataset per split (extra lance)",
        lance_keys,
        write_lance,
        finish_lance,
        ("fragments/{split}-*.json", "{split}.lance/*/*"),
        check=check_lance,
    ),
}
