"""Clips by the columns of the input that they keep."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import numpy.typing as npt

from pipeline.report.accounts import Accounts
from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.pairs import ComparedPairs
from pipeline.report.rows import Floats, Mask, Rows
from pipeline.report.tables.document import InputColumn, InputValue
from pipeline.wording import counted

CLIPS_A_VALUE = 2
"""A column is divided where its values have more clips than this, in the mean."""


def kept(rows: Rows, clips: Mask) -> dict[str, int]:
    """Count the clips that have a value in each further column of the input, the most first."""
    codes, values = rows.codes("kept")
    counts: Counter[str] = Counter()
    for text, count in zip(values, np.bincount(codes[clips], minlength=len(values)), strict=True):
        counts.update({name: int(count) for name in json.loads(text or "[]") if count})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def by_input(
    rows: Rows,
    clips: Mask,
    accounts: Accounts,
    pairs: ComparedPairs,
    scored: ScoredClips | None,
) -> tuple[list[InputColumn], dict[str, str]]:
    """Divide the dataset's clips by each column of the input that has few values.

    Returns:
        The columns; and those that are left out, with the reason.
    """
    left_out = dict(rows.inputs.left_out)
    group = np.maximum(rows.known("group_size"), 1.0)
    spent = rows.known("gpu_s") + rows.known("wasted_s") * group
    psnr = np.full(len(rows), np.nan)
    psnr[pairs.clips] = rows.numbers("psnr_db")[pairs.controls]
    good, scores = _scores(rows, scored)
    found = []
    for name, (codes, values) in rows.inputs.columns().items():
        counts = np.bincount(codes[clips], minlength=len(values))
        present = [int(code) for code in np.flatnonzero(counts[1:]) + 1]
        if len(present) + bool(counts[0]) < 2:
            left_out[name] = (
                f"all clips have the value {values[present[0]]}"
                if present
                else "no clip of the dataset has a value"
            )
            continue
        if (clips_of := int(counts[1:].sum())) <= CLIPS_A_VALUE * len(present):
            left_out[name] = (
                f"has {counted(len(present), 'value')} for {counted(clips_of, 'clip')}: too few "
                "clips of a value to compare"
            )
            continue
        entries = []
        for code in sorted(present, key=lambda code: (-counts[code], values[code])):
            mine = clips & (codes == code)
            dollars = float(accounts.row_dollars[mine].mean())
            entries.append(
                InputValue(
                    value=values[code],
                    clips=int(counts[code]),
                    good=int((good[mine] == 1).sum()),
                    judged=int(np.isfinite(good[mine]).sum()),
                    gpu_s_per_clip=float(spent[mine].mean()),
                    dollars_per_clip=dollars if np.isfinite(dollars) else None,
                    nfe_mean=float(rows.known("nfe")[mine].mean()),
                    psnr_db=_mean(psnr[mine]),
                    pairs=int(np.isfinite(psnr[mine]).sum()),
                    scores={score: _mean(column[mine]) for score, column in scores.items()},
                )
            )
        found.append(InputColumn(column=name, values=entries, without=int(counts[0])))
    return found, left_out


def _scores(rows: Rows, scored: ScoredClips | None) -> tuple[Floats, dict[str, Floats]]:
    """Verdicts and scores by row, NaN where there is none; without scores that never differ."""
    good = np.full(len(rows), np.nan)
    found: dict[str, npt.NDArray[np.float64]] = {}
    if scored is None:
        return good, found
    good[scored.places] = scored.good
    for name, values in scored.scores.items():
        known = values[np.isfinite(values)]
        if len(known) and known.min() < known.max():
            found[name] = np.full(len(rows), np.nan)
            found[name][scored.places] = values
    return good, found


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
