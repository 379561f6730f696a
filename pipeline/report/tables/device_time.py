"""Where device time went: by node and by activity."""

from __future__ import annotations

import numpy as np

from pipeline.report.accounts import HOUR, Accounts
from pipeline.report.document import Lap, Node
from pipeline.report.rows import RowRoles, Rows


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

    text_s, decode_s, again_s = (spent(name) for name in ("text_s", "decode_s", "clip_wall_s"))
    device = accounts.device_s
    parts = {
        "loading": device.loading,
        "text encoding": text_s,
        "denoising": max(gpu_s - text_s - decode_s, 0.0),
        "decoding": decode_s,
        "made again to compare": again_s,
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


def per_hour(video_s: float, gpu_s: float) -> float | None:
    """Return seconds of video per device-hour; None if no device time was measured."""
    return video_s * HOUR / gpu_s if gpu_s > 0 else None
