"""FastVideo's preprocessed layouts: Parquet with tensors, and no video.

Columns and types are those of `pyarrow_schema_t2v` and, of trajectories,
`pyarrow_schema_ode_trajectory_text_only` of hao-ai-lab/FastVideo
(`fastvideo/dataset/dataloader/schema.py`). Its reader takes tensor bytes as float32 whatever their
type column says, and pads text embeddings with zeros and a mask to the length that it trains with
(`fastvideo/dataset/utils.py`). So tensors are written as float32, and texts without their padding.
Its trainer normalises latents itself (`normalize_dit_input`), so they are written as the VAE has
them, which is how they are stored. Trajectories are normalised, as its denoising loop has them; the
trainer that starts a student from them takes the first state as the noise and the last as the clip
(`fastvideo/training/ode_causal_pipeline.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.select import Shard
from pipeline.export.whole_clip import WholeClip
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import (
    LATENTS,
    TRAJECTORY,
    TRAJECTORY_TIMESTEPS,
    about_tensors,
)

if TYPE_CHECKING:
    import torch

ROW_GROUP_CLIPS = 16
"""Clips per row group; a group of Wan at 480p has 140 MB of latents."""


def _tensor(name: str) -> list[pa.Field]:
    return [
        pa.field(f"{name}_bytes", pa.binary()),
        pa.field(f"{name}_shape", pa.list_(pa.int64())),
        pa.field(f"{name}_dtype", pa.string()),
    ]


T2V_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        *_tensor("vae_latent"),
        *_tensor("text_embedding"),
        *(pa.field(name, pa.string()) for name in ("file_name", "caption", "media_type")),
        *(pa.field(name, pa.int64()) for name in ("width", "height", "num_frames")),
        *(pa.field(name, pa.float64()) for name in ("duration_sec", "fps")),
    ]
)
"""Columns of a text-to-video sample."""

TRAJECTORY_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        *_tensor("text_embedding"),
        *_tensor("trajectory_latents"),
        *_tensor("trajectory_timesteps"),
        *(pa.field(name, pa.string()) for name in ("file_name", "caption", "media_type")),
    ]
)
"""Columns of a sample from whose trajectory a student learns."""


def tensors_keys(shard: Shard) -> list[str]:
    """The file of a shard; a folder per split and bucket, because a batch has one size."""
    folder = f"{shard.split}/{shard.bucket}" if shard.bucket else shard.split
    return [f"{folder}/{shard.number:05d}-of-{shard.of:05d}.parquet"]


def write_latents(
    storage: Storage,
    shard: Shard,
    rows: Sequence[Mapping[str, Any]],
    media: Mapping[str, WholeClip],
) -> None:
    """Write a shard of clips that all have latents and text embeddings."""
    samples, scales = [], {}
    for row in rows:
        file = media[row["sample_id"]].tensors or b""
        samples.append(_sample(row, shard.caption(row), file))
        scales[f"{row['model']}@{row['model_revision']}"] = about_tensors(file)[LATENTS]
    text = json.dumps(scales, sort_keys=True)
    _write(storage, shard, samples, T2V_SCHEMA.with_metadata({"latents_of_models": text}))


def write_trajectories(
    storage: Storage,
    shard: Shard,
    rows: Sequence[Mapping[str, Any]],
    media: Mapping[str, WholeClip],
) -> None:
    """Write a shard of clips that all have trajectories and text embeddings."""
    samples, samplers = [], set()
    for row in rows:
        file = media[row["sample_id"]].tensors or b""
        samples.append(_trajectory(row, shard.caption(row), file))
        samplers.add(json.dumps(about_tensors(file)[TRAJECTORY], sort_keys=True))
    text = json.dumps([json.loads(each) for each in sorted(samplers)])
    schema = TRAJECTORY_SCHEMA.with_metadata({"trajectories": text})
    _write(storage, shard, samples, schema)


def _write(
    storage: Storage, shard: Shard, samples: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    table = pa.Table.from_pylist([dict(each) for each in samples], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=ROW_GROUP_CLIPS, compression="zstd")
    storage.put_bytes(tensors_keys(shard)[0], out.getvalue())


def _sample(row: Mapping[str, Any], caption: str, file: bytes) -> dict[str, Any]:
    tensors = _load(file)
    return {
        "id": row["sample_id"],
        **_cells("vae_latent", tensors[LATENTS]),
        **_text(row, caption, tensors),
        "media_type": "video",
        "width": row["width"],
        "height": row["height"],
        "num_frames": row["num_frames"],
        "duration_sec": row["duration_s"],
        "fps": float(row["fps"]),
    }


def _trajectory(row: Mapping[str, Any], caption: str, file: bytes) -> dict[str, Any]:
    tensors = _load(file)
    return {
        "id": row["sample_id"],
        **_cells("trajectory_latents", tensors[TRAJECTORY]),
        **_cells("trajectory_timesteps", tensors[TRAJECTORY_TIMESTEPS]),
        **_text(row, caption, tensors),
        "media_type": "text",
    }


def _load(file: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(file)


def _text(
    row: Mapping[str, Any], caption: str, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    embeds, mask = tensors["prompt_embeds"], tensors.get("prompt_attention_mask")
    return {
        **_cells("text_embedding", embeds if mask is None else embeds[mask.bool()]),
        "file_name": f"{row['sample_id']}.mp4",
        "caption": caption,
    }


def _cells(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    values = tensor.float().numpy()
    return {
        f"{name}_bytes": values.tobytes(),
        f"{name}_shape": list(values.shape),
        f"{name}_dtype": "float32",
    }


def finish_tensors(storage: Storage, shards: Sequence[Shard], lost: Any) -> None:
    """Nothing describes the whole export: the trainer finds the files by their ending."""
