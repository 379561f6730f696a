"""Arrow types of the columns of an output row that hold several values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.prompts.condition_columns import ConditionFile

CACHE_TYPE = pa.struct(
    [
        *((name, pa.string()) for name in ("policy", "profile")),
        *((name, pa.int32()) for name in ("nfe", "reused")),
        ("decisions", pa.string()),
        ("predicted_error", pa.float64()),
        ("actual_error", pa.float64()),
        ("max_score", pa.float64()),
        ("disagreements", pa.int32()),
        ("profile_source", pa.string()),
        ("promised_error", pa.float64()),
    ]
)
"""What the cache did. `promised_error` is the relative rms error of the last latents that a plan
promises, and `profile_source` says where its profile is from: given, shipped, own or prior."""

CONDITIONS_TYPE = pa.list_(pa.struct([("column", pa.string()), ("sha256", pa.string())]))
"""The files that a clip starts from, several of one column in their order."""

WORKER_TYPE = pa.struct(
    [
        *((name, pa.string()) for name in ("id", "node", "labels")),
        *((name, pa.float64()) for name in ("load_s", "up_s")),
    ]
)
"""The process that held the group (`pipeline.process.Worker`)."""

TIMES_TYPE = pa.struct(
    [(name, pa.float64()) for name in ("text_s", "denoise_s", "decode_s", "wasted_s")]
)
"""Engine seconds of a sample, as its share of a batch. The first three add up to `wall_s`.
`wasted_s` is the time of earlier attempts: those that raised, and those that a process could still
report when it ended (lost device, dead rank). The time of a killed process is unknown."""

QUALITY_TYPE = pa.struct(
    [
        *((name, pa.float64()) for name in ("psnr_db", "ssim", "lpips")),
        ("missing", pa.string()),
        ("latent_error", pa.float64()),
        ("clip_wall_s", pa.float64()),
    ]
)
"""Of a control: how near its cached twin comes to it, both before encoding to mp4. `missing` says
why a number is not there, "" if all are. `latent_error` is the relative rms difference of their
last latents, the quantity that plans promise. `clip_wall_s` is null where the clip was made just
before; else the engine seconds of the clip that was made again to be compared
(`pipeline.attempts.samples_again`), which are not in the row's `wall_s`."""

PARALLEL_TYPE = pa.struct(
    [
        ("backend", pa.string()),
        ("ulysses", pa.int32()),
        ("ring", pa.int32()),
        ("reason", pa.string()),
        ("cfg", pa.int32()),
        ("vae", pa.bool_()),
    ]
)
"""How the ranks of a group shared the model, and why (`pipeline.parallel.layout.Layout`)."""

DRAFTS_TYPE = pa.list_(
    pa.struct(
        [
            ("sample_id", pa.string()),
            ("seed_u64", pa.uint64()),
            ("value", pa.float64()),
            ("nfe", pa.int32()),
            ("gpu_s", pa.float64()),
        ]
    )
)
"""The drafts that a clip was chosen by (`pipeline.candidates.drafts.DraftResult`)."""

TENSORS_TYPE = pa.struct(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        *((name, pa.string()) for name in ("sha256", "saved", "latents_dtype")),
        ("latents_shape", pa.list_(pa.int32())),
        ("normalised", pa.bool_()),
    ]
)
"""The file with the tensors of a clip (`pipeline.tensors.tensor_file`)."""

SCORES_TYPE = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
"""Scores of a clip by name; `value` is null where a scorer gave none. A list, because `datasets`
does not read Arrow's map type; in DuckDB, `map_from_entries(scores)` is the map."""


def draft_seconds(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Device seconds of the drafts of each row; 0 where the column `drafts` is not there."""
    sums = np.zeros(rows.num_rows)
    if "drafts" in rows.column_names:
        drafts = rows["drafts"].combine_chunks()
        seconds = pc.fill_null(pc.struct_field(pc.list_flatten(drafts), "gpu_s"), 0.0)
        np.add.at(sums, pc.list_parent_indices(drafts).to_numpy(), seconds.to_numpy())
    return sums


def condition_structs(files: Iterable[ConditionFile]) -> list[dict[str, str]]:
    """The `conditions` of a row: the files that its clip starts from."""
    return [{"column": file.column, "sha256": file.sha256} for file in files]


def image_hash(files: Iterable[ConditionFile]) -> str:
    """The `image_sha256` of a row, "" without a first image."""
    return next((file.sha256 for file in files if file.column == "image"), "")


NO_ZERO = ("seed", "seed_u64", "guidance_scale", "guidance_scale_2", "prompt_tokens")
"""Columns of numbers of which 0 is a value."""


def zero(name: str, kind: pa.DataType) -> Any:
    """What the row of no sample holds in a column: "" or 0; null where that would say something."""
    if name in NO_ZERO:
        return None
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_integer(kind):
        return 0
    return 0.0 if pa.types.is_floating(kind) else None
