"""Output rows made by hand, and prefixes that hold them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
    to_table,
)
from pipeline.report import numbers
from pipeline.report.document import Report
from pipeline.report.pricing.prices import Prices
from pipeline.report.rows import read_rows
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage

SAMPLE = SampleRequest(
    "p", "", "demo", "r", "S/3", 10, 4.0, 16, 16, 5, 8, 32, 0, CacheIdentity("planned", "{}", "h")
)
DEVICE = "NVIDIA H100 80GB HBM3"


def row(
    number: int,
    *,
    status: Any = "ok",
    run: str = "r1",
    wall: float = 1.0,
    wasted: float = 0.0,
    group: int = 1,
    attempts: int = 1,
    worker: str = "w1",
    up: float = 100.0,
    control: bool = False,
    nfe: int = 4,
    psnr: float | None = None,
    labels: str = "",
) -> dict[str, Any]:
    request = dataclasses.replace(SAMPLE, prompt=f"clip {number}", source_key=f"f:{number}")
    if control:
        request = control_for(request)
    ok = status == "ok"
    nfe = 10 if control else nfe
    cache = {
        "policy": request.cache.policy,
        "profile": "",
        "nfe": nfe if ok else 0,
        "reused": 10 - nfe if ok else 0,
        "decisions": ("C" * nfe).ljust(10, "R") if ok else "",
        "predicted_error": 0.1,
        "actual_error": 0.2,
        "max_score": 0.0,
    }
    times = {"text_s": 0.1 * wall, "denoise_s": 0.8 * wall, "decode_s": 0.1 * wall}
    provenance = Provenance(
        run,
        DEVICE,
        group,
        1,
        attempts,
        wall if ok else 0.0,
        worker={"id": worker, "node": "n1", "labels": labels, "load_s": 7.0, "up_s": up},
        times=times | {"wasted_s": wasted},
    )
    error = ("", "") if ok else ("ValueError", "cannot draw")
    made = make_row(request, provenance, SampleOutcome(status, *error, cache))
    quality = None if psnr is None else {"psnr_db": psnr, "ssim": 0.9, "lpips": None}
    return made | {"quality": quality}


def write(folder: Path, *parts: list[dict[str, Any]], stored: bool = True) -> Storage:
    """Write parts, and a file of the right size for each clip if they are to be stored."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(parts):
        pq.write_table(to_table(rows), folder / f"data/part-x-{number:05d}.parquet")
        for clip in rows if stored else ():
            if clip["status"] == "ok" and clip["video"]:
                path = folder / clip["video"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(clip["media_bytes"] or 0))
    return Storage(str(folder))


def measure(storage: Storage, prices: Prices, **options: Any) -> Report:
    """The numbers of a report on a prefix."""
    return numbers.measure(read_rows(storage), prices, **options)
