"""The tables of a report: rows by time, node, activity, NFE, model, policy, prompt and cause."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pipeline.report.accounts import HOUR, Accounts
from pipeline.report.document import (
    Bar,
    Bucket,
    Cause,
    ClipSettings,
    Decisions,
    Lap,
    Node,
    ScatterPoint,
    Slice,
)
from pipeline.report.rows import Floats, Mask, RowRoles, Rows, kinds

Places = npt.NDArray[np.int64]

BUCKETS = 60
BUCKET_CLIPS = 4
"""Clips that a span of time holds in the mean, so that bars are rates and not single clips."""
SPANS_S = (1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400)
MAX_NODES_IN_TIME = 12
MAX_DECISIONS = 40
MAX_POINTS = 1500
MAX_CAUSES = 50
PROMPT_CHARS = (40, 80, 160, 320, 640, 1280)


def throughput(rows: Rows, roles: RowRoles) -> tuple[float, list[Bucket]]:
    """Count the clips that each node finished per span of time, controls included.

    Returns:
        The length of a span in seconds, and the counts.
    """
    made = np.flatnonzero(roles.clips | roles.controls)
    if not len(made):
        return 0.0, []
    seconds = rows.known("created_at")[made] / 1e6
    began, spread = seconds.min(), float(np.ptp(seconds))
    least = spread * max(1 / BUCKETS, BUCKET_CLIPS / len(made))
    span = next((s for s in SPANS_S if s >= least), -(-spread // BUCKETS))
    codes, values = rows.codes("node")
    nodes = codes[made]
    common = np.argsort(-np.bincount(nodes, minlength=len(values)), kind="stable")
    shown = set(common[:MAX_NODES_IN_TIME].tolist())
    bucket = ((seconds - began) // span).astype(np.int64)
    found: dict[tuple[int, str], int] = {}
    combined, which = kinds(bucket, nodes)
    for key, count in zip(combined, np.bincount(which), strict=True):
        name = (values[key[1]] or "unknown") if key[1] in shown else "other nodes"
        found[int(key[0]), name] = found.get((int(key[0]), name), 0) + int(count)
    return float(span), [
        Bucket(start=iso(began + index * span), node=name, clips=clips)
        for (index, name), clips in sorted(found.items())
    ]


def nodes(rows: Rows, roles: RowRoles) -> list[Node]:
    """Summarize what each node made, controls included."""
    made = roles.clips | roles.controls
    names, values = rows.codes("node")
    devices, device_names = rows.codes("device_name")
    workers, _ = rows.codes("worker_id")
    found = []
    for code in np.unique(names[made]):
        mine = made & (names == code)
        gpu_s = float(rows.known("gpu_s")[mine].sum())
        found.append(
            Node(
                node=values[code] or "unknown",
                device_name=device_names[np.bincount(devices[mine]).argmax()],
                processes=len(np.unique(workers[mine])),
                clips=int(mine.sum()),
                gpu_s=gpu_s,
                video_s_per_gpu_hour=per_hour(float(rows.known("duration_s")[mine].sum()), gpu_s),
            )
        )
    return sorted(found, key=lambda node: (-node.clips, node.node))


def laps(rows: Rows, roles: RowRoles, accounts: Accounts) -> list[Lap]:
    """Divide device time by activity; encoding and upload run on the CPU at the same time."""
    group = np.maximum(rows.known("group_size"), 1.0)
    useful = (roles.clips | roles.controls) & ~roles.superseded
    gpu_s = float(rows.known("gpu_s")[useful].sum())

    def spent(name: str) -> float:
        return float((rows.known(name) * group)[useful].sum())

    text_s, decode_s = spent("text_s"), spent("decode_s")
    device = accounts.device_s
    parts = {
        "loading": device.loading,
        "text encoding": text_s,
        "denoising": max(gpu_s - text_s - decode_s, 0.0),
        "decoding": decode_s,
        "failed attempts": device.failed_attempts,
        "drafts": device.drafts,
        "regenerated": device.regenerated,
        "idle": device.idle,
    }
    total = device.total
    found = [
        Lap(name=name, device_s=s, share=s / total if total else 0.0, beside=False)
        for name, s in parts.items()
    ]
    return found + [
        Lap(name=name, device_s=float(rows.known(column)[useful].sum()), share=0.0, beside=True)
        for name, column in (("mp4 encoding", "encode_s"), ("upload", "upload_s"))
    ]


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


def settings(rows: Rows, clips: Mask) -> list[ClipSettings]:
    """Count the clips of each combination of settings, the most frequent first."""
    columns = [rows.codes(name) for name in ("settings", "model", "policy")]
    scales, scale = np.unique(rows.known("guidance_scale")[clips], return_inverse=True)
    steps = rows.known("num_inference_steps")[clips].astype(np.int64)
    combined, which = kinds(*(codes[clips] for codes, _ in columns), steps, scale)
    nfe = np.bincount(which, rows.known("nfe")[clips], minlength=len(combined))
    counts = np.bincount(which, minlength=len(combined))
    found = []
    for kind, count, evaluations in zip(combined, counts, nfe, strict=True):
        texts = [values[code] for code, (_, values) in zip(kind, columns, strict=False)]
        found.append(
            ClipSettings(
                settings=texts[0],
                model=texts[1],
                policy=texts[2],
                steps=int(kind[3]),
                guidance_scale=float(scales[kind[4]]),
                clips=int(count),
                nfe_mean=float(evaluations / count),
            )
        )
    return sorted(found, key=lambda each: (-each.clips, each.settings, each.steps))


def kept(rows: Rows, clips: Mask) -> dict[str, int]:
    """Count the clips that have a value in each further column of the input, the most first."""
    codes, values = rows.codes("kept")
    counts: Counter[str] = Counter()
    for text, count in zip(values, np.bincount(codes[clips], minlength=len(values)), strict=True):
        counts.update({name: int(count) for name in json.loads(text or "[]") if count})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def causes(rows: Rows, roles: RowRoles) -> list[Cause]:
    """Group failed and rejected samples by the type of their error, with the first as example."""
    status_codes, statuses = rows.codes("status")
    type_codes, types = rows.codes("error_type")
    bad = np.flatnonzero(roles.failed | roles.rejected)
    combined, which = kinds(status_codes[bad], type_codes[bad])
    groups = [(kind, bad[which == index]) for index, kind in enumerate(combined)]
    groups.sort(key=lambda group: -len(group[1]))
    examples = rows.whole([int(places[0]) for _, places in groups[:MAX_CAUSES]])
    attempts = rows.known("attempts")
    found = []
    for kind, places in groups[:MAX_CAUSES]:
        row = examples[int(places[0])]
        status = statuses[kind[0]]
        found.append(
            Cause(
                status="failed" if status == "failed" else "rejected",
                error_type=types[kind[1]],
                samples=len(places),
                attempts=int(attempts[places].sum()),
                example_id=row["sample_id"],
                example_caption=row["caption"],
                example_source=row["source_key"],
                example_message=row["error_message"],
            )
        )
    return found


def per_hour(video_s: float, gpu_s: float) -> float | None:
    """Return seconds of video per device-hour; None if no device time was measured."""
    return video_s * HOUR / gpu_s if gpu_s > 0 else None


def iso(seconds: float) -> str:
    """Format seconds since 1970 as an ISO time in UTC."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
