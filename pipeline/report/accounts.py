"""Device time and money of a prefix: what each second was spent on.

A process is charged from the beginning of loading to the end of its last call, times the devices of
its group. That time consists of the calls of its rows and of their drafts, the attempts that
raised, loading, and idle time; so the parts add up to the total, whatever failed, was retried or
was resumed. Rows of old versions, which did not record their process, count with their calls only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.report.document import PriceUsed, Spent
from pipeline.report.pricing.prices import Price, Prices
from pipeline.report.rows import Floats, RowRoles, Rows, kinds

HOUR = 3600.0


MOST_NAMED = 10
"""Runs, labels or devices that a message names."""


@dataclass(frozen=True)
class Accounts:
    """What a prefix has cost.

    Attributes:
        device_s: Device seconds.
        dollars: Money; None if a device has no price.
        row_dollars: Money for each row's own call and failed attempts; NaN where unknown.
        used: The prices that were applied.
        unpriced: Names of the devices without a price.
        unmatched: What is said of each given price that is for nothing here.
    """

    device_s: Spent
    dollars: Spent | None
    row_dollars: Floats
    used: list[PriceUsed]
    unpriced: list[str]
    unmatched: list[str]


def account(rows: Rows, roles: RowRoles, prices: Prices) -> Accounts:
    """Add up device time and money."""
    group = np.maximum(rows.known("group_size"), 1.0)
    calls, wasted = rows.known("gpu_s"), rows.known("wasted_s") * group
    drafts, again = rows.known("draft_gpu_s"), rows.known("clip_wall_s") * group
    price, used, unpriced = _prices(rows, prices, calls + again + wasted + drafts)
    loading, idle, worker_price = _processes(rows, group, price)
    masks = {
        "clips": roles.clips,
        "controls": roles.controls,
        "regenerated": roles.superseded,
    }
    calls = calls + again  # of controls: their clips were made again to be compared
    parts = {name: float(calls[mask].sum()) for name, mask in masks.items()}
    # A failed row has no call of its own today; if it had one, that would be a failed attempt.
    lost = wasted + np.where(roles.failed, calls, 0.0)
    parts |= {"failed_attempts": float(lost.sum()), "drafts": float(drafts.sum())}
    parts |= {"loading": float(loading.sum()), "idle": float(idle.sum())}
    money = {
        name: float((calls * price)[mask].sum() / HOUR) if mask.any() else 0.0
        for name, mask in masks.items()
    }
    charged = lost > 0
    money["failed_attempts"] = float((lost * price)[charged].sum() / HOUR)
    money["drafts"] = float((drafts * price)[drafts > 0].sum() / HOUR)
    money["loading"] = float((loading * worker_price).sum() / HOUR)
    money["idle"] = float((idle * worker_price).sum() / HOUR)
    known = all(np.isfinite(value) for value in money.values()) and bool(used)
    return Accounts(
        Spent(**parts, total=sum(parts.values())),
        Spent(**money, total=sum(money.values())) if known else None,
        (calls + wasted) * price / HOUR,
        used,
        unpriced,
        _unmatched(rows, prices),
    )


def _unmatched(rows: Rows, prices: Prices) -> list[str]:
    """Say of each given price of a run, label or device that the prefix has none of these."""
    run_ids, labels, devices = (
        sorted({value for value in rows.codes(name)[1] if value})
        for name in ("run_id", "labels", "device_name")
    )
    nouns = {
        "run": ("run", run_ids),
        "label": ("label", sorted({each for text in labels for each in text.split(",") if each})),
        "device": ("device", devices),
    }
    found = []
    for key, dollars in prices.given.items():
        kind, _, text = key.partition(":")
        noun, there = nouns.get(kind, ("", []))
        matches = (
            any(text.lower() in each.lower() for each in there)
            if kind == "device"
            else text in there
        )
        if noun and not matches:
            shown = ", ".join(there[:MOST_NAMED]) or "none"
            more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
            found.append(
                f"--price {key}={dollars:g} is for no {noun} of this prefix; its {noun}s are "
                f"{shown}{more}."
            )
    return found


def _prices(
    rows: Rows, prices: Prices, device_s: Floats
) -> tuple[Floats, list[PriceUsed], list[str]]:
    """Return each row's dollars per device-hour (NaN where unknown), the prices, the unpriced."""
    columns = [rows.codes(name) for name in ("run_id", "labels", "device_name")]
    combined, which = kinds(*(codes for codes, _ in columns))
    spent = np.bincount(which, device_s, minlength=len(combined))
    found: list[Price | None] = []
    for kind in combined:
        texts = [values[code] for code, (_, values) in zip(kind, columns, strict=True)]
        found.append(prices.find(*texts))
    each = np.array([p.dollars if p else np.nan for p in found], np.float64)
    used: dict[Price, tuple[str, float]] = {}
    unpriced = set()
    for kind, price, seconds in zip(combined, found, spent, strict=True):
        name = columns[2][1][kind[2]]
        if price is not None and name:
            scope, before = used.get(price, (name, 0.0))
            used[price] = (scope, before + float(seconds))
        elif price is None and seconds > 0:
            unpriced.add(name or "unknown device")
    lines = [
        PriceUsed(scope=scope, dollars_per_gpu_hour=p.dollars, source=p.source, device_s=seconds)
        for p, (scope, seconds) in used.items()
    ]
    return (each[which] if len(each) else np.empty(0)), lines, sorted(unpriced)


def _processes(rows: Rows, group: Floats, price: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the loading and idle device-seconds and the price of each process."""
    codes, values = rows.codes("worker_id")
    known = np.array([bool(value) for value in values])[codes] if len(rows) else codes > 0
    if not known.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    codes = codes[known]
    size = len(values)
    called_s = rows.known("wall_s") + rows.known("clip_wall_s") + rows.known("wasted_s")
    called_s += rows.known("draft_gpu_s") / group
    busy = np.bincount(codes, called_s[known], size)
    load, up, ranks = np.zeros(size), np.zeros(size), np.zeros(size)
    np.maximum.at(load, codes, rows.known("load_s")[known])
    np.maximum.at(up, codes, rows.known("up_s")[known])
    np.maximum.at(ranks, codes, group[known])
    cost = np.zeros(size)
    cost[codes] = price[known]
    idle = np.maximum(up - load - busy, 0.0)
    return load * ranks, idle * ranks, cost
