"""What was computed: evaluations, decisions by step, and points of scatter plots."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pipeline.report.document import Bar, Decisions, ScatterPoint
from pipeline.report.rows import Floats, Mask, Rows, kinds

Places = npt.NDArray[np.int64]

MAX_DECISIONS = 40
MAX_POINTS = 1500


def evaluations(rows: Rows, clips: Mask) -> list[Bar]:
    """Count the clips by their number of network evaluations."""
    values, counts = np.unique(rows.known("nfe")[clips].astype(np.int64), return_counts=True)
    return [Bar(nfe=int(v), clips=int(c)) for v, c in zip(values, counts, strict=True)]


def decisions(rows: Rows, clips: Mask) -> list[Decisions]:
    """Return the share of clips that computed each step, by policy, steps and NFE.

    Only the most frequent combinations are returned.
    """
    policy_codes, policies = rows.codes("policy")
    text_codes, texts = rows.codes("decisions")
    nfe = rows.known("nfe").astype(np.int64)
    # Distinct decision texts are few under a plan, and up to one per clip otherwise.
    combined, which = kinds(policy_codes[clips], text_codes[clips], nfe[clips])
    counts = np.bincount(which)
    sums: dict[tuple[str, int, int], tuple[int, Floats]] = {}
    for (policy, text, evaluated), count in zip(combined.tolist(), counts.tolist(), strict=True):
        steps = texts[text]
        if not steps:
            continue
        bits = np.frombuffer(steps.encode(), np.uint8) == ord("C")
        group = (policies[policy], len(steps), evaluated)
        before, total = sums.get(group, (0, np.zeros(len(steps))))
        sums[group] = (before + count, total + count * bits)
    common = sorted(sums.items(), key=lambda item: -item[1][0])[:MAX_DECISIONS]
    return [
        Decisions(
            policy=policy,
            steps=steps,
            nfe=evaluated,
            clips=count,
            computed=np.round(total / count, 4).tolist(),
        )
        for (policy, steps, evaluated), (count, total) in sorted(common)
    ]


def points(
    rows: Rows, places: Places, x: Floats, y: Floats, group: Iterable[str]
) -> list[ScatterPoint]:
    """Return the points of a scatter plot; of many rows an even sample in the order of ids."""
    known = np.isfinite(x) & np.isfinite(y)
    labels = np.array(list(group), dtype=object)[known]
    places, x, y = places[known], x[known], y[known]
    ids = np.array(rows.table["sample_id"].take(places).to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(MAX_POINTS, len(order))).astype(np.int64)]
    return [
        ScatterPoint(sample_id=ids[i], x=float(x[i]), y=float(y[i]), group=labels[i]) for i in order
    ]
