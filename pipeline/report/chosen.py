"""Which clips a page shows: an even sample, and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.report.accounts import Roles
from pipeline.report.document import Clip
from pipeline.report.pairs import Pairs
from pipeline.report.rows import Rows

GALLERY = 12
WORST = 10


def gallery(rows: Rows, roles: Roles, pairs: Pairs) -> list[Clip]:
    """Pairs first, then other clips; an even sample in the order of ids."""
    ids = np.array(rows.table["sample_id"].take(pa.array(pairs.clips)).to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    chosen = [(int(pairs.clips[i]), int(pairs.controls[i])) for i in _even(order, GALLERY)]
    if len(chosen) < GALLERY:
        paired = {clip for clip, _ in chosen}
        others = np.array([i for i in np.flatnonzero(roles.clips)[:10_000] if i not in paired])
        chosen += [(int(i), -1) for i in _even(others, GALLERY - len(chosen))]
    return _clips(rows, chosen)


def worst(rows: Rows, pairs: Pairs) -> list[Clip]:
    """Cached clips that are farthest from their controls, the farthest first."""
    psnr = rows.numbers("psnr_db")[pairs.controls]
    known = np.flatnonzero(np.isfinite(psnr))
    order = known[np.argsort(psnr[known], kind="stable")][:WORST]
    return _clips(rows, [(int(pairs.clips[i]), int(pairs.controls[i])) for i in order])


def _even(values: Any, count: int) -> Any:
    if not len(values):
        return values
    at = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).astype(np.int64))
    return values[at]


def _clips(rows: Rows, chosen: Sequence[tuple[int, int]]) -> list[Clip]:
    whole = rows.whole([place for pair in chosen for place in pair if place >= 0])
    found = []
    for place, twin in chosen:
        row = whole[place]
        control: dict[str, Any] = {}
        if twin >= 0:
            other = whole[twin]
            quality = other.get("quality") or {}
            control = {
                "control_id": other["sample_id"],
                "control_path": other["video"]["path"],
                "control_wall_s": other["wall_s"],
                "psnr_db": quality.get("psnr_db"),
                "ssim": quality.get("ssim"),
            }
        found.append(
            Clip(
                sample_id=row["sample_id"],
                caption=row["caption"],
                path=row["video"]["path"],
                model=row["model"],
                seed=row["seed"],
                policy=row["cache"]["policy"],
                nfe=row["cache"]["nfe"],
                steps=row["num_inference_steps"],
                wall_s=row["wall_s"],
                **control,
            )
        )
    return found
