"""Projections: what is still to come, and what clips would cost at other budgets.

All other numbers of a report are sums over rows; these are extrapolated, and each names its basis.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from pipeline.report.accounts import Accounts
from pipeline.report.document import ReportProjection, RunEntry, WhatIf
from pipeline.report.pairs import ComparedPairs, clip_wall, comparable
from pipeline.report.rows import RowRoles, Rows
from pipeline.report.tables.document import Quality
from pipeline.wording import counted

REST = "rest of run"
"""What the projection of an unfinished run begins with."""

BUDGETS = (0.26, 0.34, 0.42, 0.5, 0.66, 1.0)


def project(
    rows: Rows, roles: RowRoles, accounts: Accounts, runs: list[RunEntry], more_clips: int
) -> list[ReportProjection]:
    """Project the cost of the rest of the latest run, and of further clips, at the rate so far.

    The rest of a run is counted in samples, controls included. Further clips are clips of the
    dataset: each one carries its share of controls, failed attempts, drafts and idle time.
    """
    clips, samples = int(roles.clips.sum()), int((roles.clips | roles.controls).sum())
    # All costs but loading, which the next clips do not pay again.
    device, money = accounts.device_s, accounts.dollars
    gpu_s = device.total - device.loading
    dollars = money.total - money.loading if money else None
    found = []

    def add(what: str, wanted: int, made: int) -> None:
        cost = None if dollars is None else dollars * wanted / made
        found.append(
            ReportProjection(what=what, clips=wanted, gpu_s=gpu_s * wanted / made, dollars=cost)
        )

    run = runs[-1]
    if run.wanted is not None and run.state != "done" and samples:
        rejected = int((rows.having("run_id", run.run_id) & roles.rejected).sum())
        if (left := run.wanted - (run.rows - rejected)) > 0:
            add(f"{REST} {run.run_id}", left, samples)
    if more_clips and clips:
        add(counted(more_clips, "more clip", grouped=True), more_clips, clips)
    return found


def what_if(
    rows: Rows,
    pairs: ComparedPairs,
    accounts: Accounts,
    quality: list[Quality],
    budgets: Sequence[float],
) -> list[WhatIf]:
    """Estimate the cost of a clip at other budgets.

    A line through the calls of cached clips and of controls gives the cost by NFE. Quality is given
    only where it was measured. Only comparable pairs with the most frequent number of steps are
    used; the table is empty if there are none, or if they saved neither evaluations nor time.
    """
    keep, _ = comparable(rows, pairs)
    if not keep.any():
        return []
    steps = rows.known("num_inference_steps").astype(np.int64)[pairs.clips]
    common = int(np.bincount(steps[keep]).argmax())
    here = keep & (steps == common)
    cached, control = pairs.clips[here], pairs.controls[here]
    gpu_s, nfe = rows.known("gpu_s"), rows.known("nfe")
    cached_s = clip_wall(rows, pairs)[here] * np.maximum(rows.known("group_size")[control], 1.0)
    saved = (nfe[control] - nfe[cached]).sum()
    if saved <= 0:
        return []
    slope = float((gpu_s[control] - cached_s).sum() / saved)
    if slope <= 0:
        return []
    fixed = float(gpu_s[control].mean() - slope * nfe[control].mean())
    spent = gpu_s[cached].sum() + gpu_s[control].sum()
    money = accounts.row_dollars[np.concatenate([cached, control])].sum()
    rate = float(money / spent) if spent and np.isfinite(money) else None
    measured = _measured([entry for entry in quality if entry.steps == common])
    wanted = {max(1, round(budget * common)): budget for budget in budgets}
    wanted |= {entry: entry / common for entry in measured}
    full = fixed + slope * common
    found = []
    for evaluations, budget in sorted(wanted.items()):
        seconds = fixed + slope * evaluations
        known = measured.get(evaluations)
        # A call cannot win more time than evaluations: such a line holds where it was measured.
        if fixed < 0 and known is None and evaluations != common:
            continue
        uncached = 100.0 if evaluations == common else None
        found.append(
            WhatIf(
                budget=budget,
                nfe=evaluations,
                gpu_s_per_clip=seconds,
                dollars_per_clip=None if rate is None else seconds * rate,
                speedup=full / seconds,
                psnr_db=uncached if known is None else known,
                measured=known is not None or evaluations == common,
            )
        )
    return found


def _measured(quality: Sequence[Quality]) -> dict[int, float]:
    """The mean PSNR by the number of evaluations, over the pairs of all settings that had it."""
    pairs: Counter[int] = Counter()
    sums: defaultdict[int, float] = defaultdict(float)
    for entry in quality:
        evaluations = round(entry.nfe_mean)
        pairs[evaluations] += entry.pairs
        sums[evaluations] += entry.pairs * entry.psnr_db.value
    return {evaluations: sums[evaluations] / count for evaluations, count in pairs.items()}
