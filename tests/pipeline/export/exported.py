"""A small dataset to export, and what an export should give back of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.dataset as ds

from pipeline.requests.sample_request import CacheIdentity, SampleRequest

SAMPLE = SampleRequest(
    "p", "", "demo", "r", "S/3", 4, 4.0, 16, 16, 3, 8, 32, 0, CacheIdentity("planned", "{}", "h")
)

MOST_SEED = 2**64 - 1

OF_ANY_CLIP = ["webdataset", "hub", "fastvideo"]
"""Formats that need neither tensors nor a library of their own; the others have own tests."""


def truth(prefix: Path) -> dict[str, tuple[str, str]]:
    rows = ds.dataset(prefix / "data", format="parquet").to_table().to_pylist()
    return {
        row["sample_id"]: (row["caption"], row["media_sha256"])
        for row in rows
        if row["status"] == "ok" and not row["control_of"]
    }


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
