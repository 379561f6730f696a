"""Clips over time: how many were finished in each span of the time in which runs were up."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.report.rows import Floats, RowRoles, Rows, kinds
from pipeline.report.tables.document import Bucket, Stretch

BUCKETS = 60
BUCKET_CLIPS = 4
"""Clips that a span of time holds in the mean, so that bars are rates and not single clips."""
SPANS_S = (1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400)
MAX_NODES_IN_TIME = 12


def throughput(rows: Rows, roles: RowRoles) -> tuple[float, list[Stretch], list[Bucket]]:
    """Count the clips that each node finished per span of time, controls included.

    A stretch is a time in which at least one run was up, from the beginning of its first call to
    its last clip. It is cut into equal spans, so that no span reaches into a pause between runs.

    Returns:
        The length of a span in seconds, roughly; the stretches; and the counts.
    """
    made = np.flatnonzero(roles.clips | roles.controls)
    if not len(made):
        return 0.0, [], []
    ended = rows.known("created_at")[made] / 1e6
    # The seconds of a row are its share of its call.
    began = ended - rows.known("wall_s")[made] * np.maximum(rows.known("batch_rows")[made], 1)
    up = list(_stretches(rows.codes("run_id")[0][made], began, ended))
    total = sum(end - begin for begin, end in up)
    least = total * max(1 / BUCKETS, BUCKET_CLIPS / len(made))
    span = float(next((s for s in SPANS_S if s >= least), -(-total // BUCKETS)))
    stretches = [
        Stretch(
            start=iso(begin),
            seconds=max(end - begin, 1e-3),
            spans=max(1, round((end - begin) / span)),
        )
        for begin, end in up
    ]
    codes, values = rows.codes("node")
    nodes = codes[made]
    common = np.argsort(-np.bincount(nodes, minlength=len(values)), kind="stable")
    shown = set(common[:MAX_NODES_IN_TIME].tolist())
    # The last stretch that began before a clip ended holds it.
    stretch = np.searchsorted([begin for begin, _ in up], ended, side="right") - 1
    lengths = np.array([each.seconds / each.spans for each in stretches])[stretch]
    most = np.array([each.spans for each in stretches])[stretch] - 1
    since = ended - np.array([begin for begin, _ in up])[stretch]
    # A clip that ends with a span is in it.
    number = np.clip(np.ceil(since / lengths).astype(np.int64) - 1, 0, most)
    found: dict[tuple[int, int, str], int] = {}
    combined, which = kinds(stretch, number, nodes)
    for key, count in zip(combined, np.bincount(which), strict=True):
        name = (values[key[2]] or "unknown") if key[2] in shown else "other nodes"
        place = (int(key[0]), int(key[1]), name)
        found[place] = found.get(place, 0) + int(count)
    return (
        span,
        stretches,
        [
            Bucket(
                start=iso(up[at][0] + index * stretches[at].seconds / stretches[at].spans),
                node=name,
                clips=clips,
                stretch=at,
                span=index,
            )
            for (at, index, name), clips in sorted(found.items())
        ],
    )


def _stretches(
    runs: npt.NDArray[np.int64], began: Floats, ended: Floats
) -> Iterator[tuple[float, float]]:
    """Begin and end of each time in which at least one run was up, in order."""
    masks = [runs == run for run in np.unique(runs)]
    times = sorted((float(began[mine].min()), float(ended[mine].max())) for mine in masks)
    begin, end = times[0]
    for later, last in times[1:]:
        if later > end:
            yield begin, end
            begin = later
        end = max(end, last)
    yield begin, end


def iso(seconds: float) -> str:
    """Format seconds since 1970 as an ISO time in UTC."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
