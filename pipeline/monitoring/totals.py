"""Totals of a run so far, added up from its output rows alone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields, replace

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(slots=True)
class RunTotals:
    """Sums over the rows of one run.

    Attributes:
        ok: Clips made, controls included.
        failed: Samples that used up their attempts, controls included.
        rejected: Input rows that could not become samples.
        gpu_s: Device-seconds of the ok rows (wall x group size), and of clips that were made again
            to be compared with their controls.
        video_s: Seconds of video, without controls.
        nfe: Network evaluations in steps, without controls.
        steps: Sampler steps, without controls.
        failed_attempts: Failed attempts of the ok and failed rows.
        controls: Controls made.
        wasted_gpu_s: Device-seconds of failed attempts, as far as measured.
        controls_failed: Controls that used up their attempts.
        control_gpu_s: Device-seconds of the controls, and of clips that were made again for them.
        truncated: Clips whose prompt has an end that the model did not read.
        quantised: Clips whose controls are in full precision, because their weights are quantised.
        planned: Clips with a promised error.
        promised_squares: Sum of the squares of their promised errors.
        compared: Controls whose latents were compared with those of their cached twin.
        latent_squares: Sum of the squares of the errors that these found.
        good: Clips that meet the condition `--keep`, without controls.
        not_good: Clips that do not.
        redraws: Further tries at clips that were not good.
        redraws_good: Those of them that are good.
        drafts: Drafts that clips were chosen by.
        draft_gpu_s: Device-seconds of these.
        score_s: Thread seconds of scoring.
        saved: Clips and controls with tensors beside them.
        saved_bytes: Bytes of these.
    """

    ok: int = 0
    failed: int = 0
    rejected: int = 0
    gpu_s: float = 0.0
    video_s: float = 0.0
    nfe: int = 0
    steps: int = 0
    failed_attempts: int = 0
    controls: int = 0
    wasted_gpu_s: float = 0.0
    controls_failed: int = 0
    control_gpu_s: float = 0.0
    truncated: int = 0
    quantised: int = 0
    planned: int = 0
    promised_squares: float = 0.0
    compared: int = 0
    latent_squares: float = 0.0
    good: int = 0
    not_good: int = 0
    redraws: int = 0
    redraws_good: int = 0
    drafts: int = 0
    draft_gpu_s: float = 0.0
    score_s: float = 0.0
    saved: int = 0
    saved_bytes: int = 0

    def add(self, table: pa.Table) -> None:
        """Add a table of output rows (`pipeline.dataset.schema`), all of it or nothing.

        A signal can come at any moment, and the totals are then printed and stored as they are.
        """
        after = replace(self)
        after._add(table)
        for each in fields(self):
            setattr(self, each.name, getattr(after, each.name))

    def _add(self, table: pa.Table) -> None:
        self._count(table)
        made = table.filter(pc.equal(table["status"], "ok"))
        control = pc.not_equal(made["control_of"], "")
        clips, controls = made.filter(pc.invert(control)), made.filter(control)
        again_s = pc.struct_field(controls["quality"], "clip_wall_s")
        compared_s = _sum(pc.multiply(again_s, controls["group_size"]))
        self.gpu_s += _sum(made["gpu_s"]) + compared_s
        self.control_gpu_s += _sum(controls["gpu_s"]) + compared_s
        self.video_s += _sum(clips["duration_s"])
        self.truncated += int(_sum(clips["prompt_truncated"]))
        self.quantised += int(_sum(pc.not_equal(clips["quantisation"], "")))
        promised = pc.drop_null(pc.struct_field(clips["cache"], "promised_error"))
        self.planned += len(promised)
        self.promised_squares += _sum(pc.power(promised, 2))
        found = pc.drop_null(pc.struct_field(controls["quality"], "latent_error"))
        self.compared += len(found)
        self.latent_squares += _sum(pc.power(found, 2))
        good = int(_sum(clips["good"]))
        self.good += good
        self.not_good += len(pc.drop_null(clips["good"])) - good
        by_drafts = pc.greater(pc.list_value_length(clips["drafts"]), 0).fill_null(False)
        later = pc.greater(clips["candidate"], 1).fill_null(False)
        further = clips.filter(pc.and_(later, pc.invert(by_drafts)))
        self.redraws += further.num_rows
        self.redraws_good += int(_sum(further["good"]))
        drafts = pc.list_flatten(made["drafts"])
        self.drafts += len(drafts)
        self.draft_gpu_s += _sum(pc.struct_field(drafts, "gpu_s"))
        self.score_s += _sum(made["score_s"])
        sizes = pc.struct_field(made["tensors"], "bytes")
        self.saved += len(sizes) - sizes.null_count
        self.saved_bytes += int(_sum(sizes))
        nfe = int(_sum(pc.struct_field(clips["cache"], "nfe")))
        self.nfe += nfe
        self.steps += nfe + int(_sum(pc.struct_field(clips["cache"], "reused")))
        wasted = pc.struct_field(table["times"], "wasted_s")
        self.wasted_gpu_s += _sum(pc.multiply(wasted, table["group_size"]))
        self.failed_attempts += int(_sum(table["attempts"])) - made.num_rows

    def _count(self, table: pa.Table) -> None:
        control = pc.not_equal(table["control_of"], "").to_pylist()
        rows = Counter(zip(table["status"].to_pylist(), control, strict=True))
        self.ok += rows["ok", False] + rows["ok", True]
        self.failed += rows["failed", False] + rows["failed", True]
        self.rejected += rows["rejected", False]
        self.controls += rows["ok", True]
        self.controls_failed += rows["failed", True]

    @property
    def clips(self) -> int:
        """Clips of the dataset, without controls."""
        return self.ok - self.controls

    @property
    def spent(self) -> dict[str, float]:
        """Device-seconds by purpose, with the names of `report.json`."""
        return {
            "clips": self.gpu_s - self.control_gpu_s,
            "controls": self.control_gpu_s,
            "failed_attempts": self.wasted_gpu_s,
            "drafts": self.draft_gpu_s,
        }

    @property
    def promised_error(self) -> float | None:
        """Relative error of the last latents that plans promised, root mean square over clips."""
        return math.sqrt(self.promised_squares / self.planned) if self.planned else None

    @property
    def latent_error(self) -> float | None:
        """The same as the run's own controls measured it."""
        return math.sqrt(self.latent_squares / self.compared) if self.compared else None

    @property
    def made(self) -> int:
        """Samples that have their final row, ok or failed."""
        return self.ok + self.failed

    @property
    def reuse_ratio(self) -> float:
        """Reused / steps, 0 before the first step."""
        return 1 - self.nfe / self.steps if self.steps else 0.0


def _sum(column: pa.ChunkedArray) -> float:
    return float(pc.sum(column).as_py() or 0.0)
