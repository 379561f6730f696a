"""Synthetic output rows, to measure how the report scales.

They resemble a real dataset: several runs, nodes and processes, failures, superseded rows,
controls, every cache column. Their media do not exist.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipeline.dataset.schema import SCHEMA, media_key

WORDS = ("a red circle moving left on black", "two dogs in the rain", "“golden hour”, 8k 🌆")
STEPS = 50


def synthetic_parts(rows: int, part_rows: int, seed: int = 0) -> Iterator[pa.Table]:
    """Yield tables in `SCHEMA`, `rows` in all; the same arguments give the same rows."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, part_rows):
        yield _part(rng, start, min(part_rows, rows - start))


def _part(rng: np.random.Generator, start: int, rows: int) -> pa.Table:
    ids = [hashlib.sha256(str(start + n).encode()).hexdigest()[:20] for n in range(rows)]
    index = np.arange(start, start + rows)
    control = (index % 20 == 1) & (np.arange(rows) > 0)
    failed = (index % 97 == 5) & ~control
    worker = index % 16
    nfe = np.where(control, STEPS, rng.integers(12, 22, rows))
    wall = np.where(failed, 0.0, 2.0 + 0.4 * nfe + rng.normal(0, 0.1, rows).clip(-0.3, 0.3))
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    spans = {int(k): ("C" * int(k)).ljust(STEPS, "R") for k in np.unique(nfe)}
    up = 60.0 + (index // 16) * 11.0 + wall

    def texts(values: list[str]) -> pa.Array:
        return pa.array(values, pa.string())

    def struct(name: str, columns: dict[str, pa.Array]) -> pa.Array:
        kind = SCHEMA.field(name).type
        return pa.StructArray.from_arrays(
            [
                columns[field.name].cast(field.type)
                if field.name in columns
                else pa.nulls(rows, field.type)
                for field in kind
            ],
            fields=list(kind),
        )

    empty, zeros = texts([""] * rows), pa.array(np.zeros(rows))
    columns = {
        "sample_id": texts(ids),
        "video": struct(
            "video",
            {
                "bytes": pa.nulls(rows, pa.binary()),
                "path": texts([media_key(sample_id) for sample_id in ids]),
            },
        ),
        "caption": texts([WORDS[n % 3] * (1 + n % 5) for n in index]),
        "source_key": texts([f"p.parquet:{n}" for n in index]),
        "model": texts(["wan-2.1-t2v-1.3b"] * rows),
        "status": texts(["failed" if bad else "ok" for bad in failed]),
        "error_type": texts(["OutOfMemoryError" if bad else "" for bad in failed]),
        "error_message": texts(["CUDA out of memory" if bad else "" for bad in failed]),
        "attempts": pa.array(np.where(failed, 3, 1)),
        "run_id": texts([f"2026010{1 + n % 3}T000000Z-abcdef" for n in index // 1000]),
        "created_at": pa.array(
            [began + datetime.timedelta(seconds=float(s)) for s in up],
            pa.timestamp("us", tz="UTC"),
        ),
        "wall_s": pa.array(wall),
        "gpu_s": pa.array(wall),
        "duration_s": pa.array(np.where(failed, 0.0, 5.0)),
        "seed": pa.array(index),
        "num_inference_steps": pa.array(np.full(rows, STEPS)),
        "device_name": texts(["NVIDIA H100 80GB HBM3"] * rows),
        "group_size": pa.array(np.ones(rows)),
        "batch_rows": pa.array(np.ones(rows)),
        "media_bytes": pa.array(np.where(failed, 0, 1_000_000)),
        "cache": struct(
            "cache",
            {
                "policy": texts(["none" if twin else "planned" for twin in control]),
                "profile": empty,
                "nfe": pa.array(np.where(failed, 0, nfe)),
                "reused": pa.array(np.where(failed, 0, STEPS - nfe)),
                "decisions": texts(
                    ["" if bad else spans[int(k)] for bad, k in zip(failed, nfe, strict=True)]
                ),
                "predicted_error": pa.array(rng.gamma(2.0, 0.05, rows)),
                "actual_error": pa.array(rng.gamma(2.0, 0.05, rows)),
                "max_score": zeros,
            },
        ),
        "control_of": texts([ids[n - 1] if twin else "" for n, twin in enumerate(control)]),
        "quality": struct(
            "quality",
            {
                "psnr_db": pa.array(np.where(control, rng.normal(40, 3, rows), np.nan)),
                "ssim": pa.array(np.where(control, 0.98, np.nan)),
                "lpips": pa.nulls(rows, pa.float64()),
                "missing": pa.nulls(rows, pa.string()),
            },
        ),
        "worker": struct(
            "worker",
            {
                "id": texts([f"{n}-worker" for n in worker]),
                "node": texts([f"node-{n // 4}" for n in worker]),
                "labels": texts(["market=spot" if n % 2 else "" for n in worker]),
                "load_s": pa.array(np.full(rows, 45.0)),
                "up_s": pa.array(up),
            },
        ),
        "times": struct(
            "times",
            {
                "text_s": pa.array(wall * 0.02),
                "denoise_s": pa.array(wall * 0.9),
                "decode_s": pa.array(wall * 0.08),
                "wasted_s": pa.array(np.where(failed, 12.0, 0.0)),
            },
        ),
    }
    arrays = []
    for column in SCHEMA:
        if column.name in columns:
            arrays.append(columns[column.name].cast(column.type))
        elif pa.types.is_string(column.type):
            arrays.append(empty)
        else:
            arrays.append(pa.nulls(rows, column.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
