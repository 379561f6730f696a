"""Clips that have something in common: what they cost, and how many there are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.report.accounts import Accounts
from pipeline.report.document import Slice
from pipeline.report.rows import Mask, Rows

PROMPT_CHARS = (40, 80, 160, 320, 640, 1280)


def slices(rows: Rows, clips: Mask, accounts: Accounts, column: str) -> list[Slice]:
    """Return the cost of the dataset's clips by a repeated text column."""
    codes, values = rows.codes(column)
    return _slices(rows, clips, accounts, codes, [value or "unknown" for value in values])


def prompt_slices(rows: Rows, clips: Mask, accounts: Accounts) -> list[Slice]:
    """Return the cost of the dataset's clips by the length of their prompts."""
    codes = np.searchsorted(PROMPT_CHARS, rows.known("caption_chars"), side="right")
    starts = (0, *PROMPT_CHARS)
    names = [f"{low} to {high - 1}" for low, high in zip(starts, PROMPT_CHARS, strict=False)]
    return _slices(rows, clips, accounts, codes, [*names, f"{PROMPT_CHARS[-1]} and more"])


def _slices(
    rows: Rows, clips: Mask, accounts: Accounts, codes: npt.NDArray[np.int64], names: list[str]
) -> list[Slice]:
    found = []
    group = np.maximum(rows.known("group_size"), 1.0)
    spent = rows.known("gpu_s") + rows.known("wasted_s") * group
    for code in np.unique(codes[clips]):
        mine = clips & (codes == code)
        dollars = float(accounts.row_dollars[mine].mean())
        found.append(
            Slice(
                key=names[code],
                clips=int(mine.sum()),
                gpu_s_per_clip=float(spent[mine].mean()),
                dollars_per_clip=dollars if np.isfinite(dollars) else None,
                nfe_mean=float(rows.known("nfe")[mine].mean()),
            )
        )
    return found
