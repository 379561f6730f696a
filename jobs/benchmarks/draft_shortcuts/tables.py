"""The tables of shortcuts for drafts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from jobs.benchmarks.tables import table

SHARED_HEADINGS = ("computed steps", "of the draft", "new", "promised error", "error", "PSNR dB")
HALF_HEADINGS = ("four drafts of 8", "evaluations", "clips decoded", "gained")
COSTS = {
    "4 whole drafts": (32, 4),
    "4 drafts, 2 given up half-way": (24, 6),
    "4 half drafts": (16, 4),
}
"""Evaluations of the drafts, and how many clips are decoded to be judged."""


def shared_cells(plans: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row per plan."""
    return [
        [
            str(each["computed"]),
            str(each["shared"]),
            str(each["new"]),
            f"{each['promised']:.4f}",
            f"{each['error']:.4f}",
            f"{statistics.fmean(each['psnr']):.1f}",
        ]
        for each in plans
    ]


def half_cells(half: Mapping[str, Any]) -> list[list[str]]:
    """One row per way to choose."""
    rows = []
    for name, gain in half["gain"].items():
        evaluations, decoded = COSTS[name]
        shown = f"{gain['mean']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]"
        rows.append([name, str(evaluations), str(decoded), shown])
    return rows


def shared_table(plans: Sequence[Mapping[str, Any]]) -> Table:
    """For the console."""
    return table("finished from a draft's outputs", SHARED_HEADINGS, shared_cells(plans))


def half_table(half: Mapping[str, Any]) -> Table:
    """For the console."""
    title = f"drafts given up half-way, {half['prompts']} prompts"
    return table(title, HALF_HEADINGS, half_cells(half))
