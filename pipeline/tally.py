"""What a run has made so far, added up from its output rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(slots=True)
class Tally:
    """Sums over the rows of one run.

    Attributes:
        ok: Clips made, controls included.
        failed: Samples given up after their last attempt.
        rejected: Input rows that could not become samples.
        gpu_s: Group-seconds of the ok and failed rows (wall x group size).
        video_s: Seconds of video made.
        nfe: Network evaluations of the clips that are no controls, in steps.
        steps: Sampler steps of the same.
        failed_attempts: Attempts of the ok and failed rows that failed.
        controls: Those of the clips that are controls.
        wasted_gpu_s: Group-seconds of attempts that failed, as far as measured.
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

    def add(self, table: pa.Table) -> None:
        """Count a table of output rows (see `pipeline.schema.SCHEMA`)."""
        status = table["status"].to_pylist()
        ok = status.count("ok")
        self.ok += ok
        self.failed += status.count("failed")
        self.rejected += status.count("rejected")
        self.gpu_s += pc.sum(table["gpu_s"]).as_py() or 0.0
        self.video_s += pc.sum(table["duration_s"]).as_py() or 0.0
        own = table.filter(pc.equal(table["control_of"], ""))
        nfe = pc.sum(pc.struct_field(own["cache"], "nfe")).as_py() or 0
        reused = pc.sum(pc.struct_field(own["cache"], "reused")).as_py() or 0
        self.nfe += nfe
        self.steps += nfe + reused
        self.controls += ok - own["status"].to_pylist().count("ok")
        wasted = pc.multiply(pc.struct_field(table["times"], "wasted_s"), table["group_size"])
        self.wasted_gpu_s += pc.sum(wasted).as_py() or 0.0
        self.failed_attempts += (pc.sum(table["attempts"]).as_py() or 0) - ok

    @property
    def made(self) -> int:
        """Samples that have their final row."""
        return self.ok + self.failed

    @property
    def reuse_ratio(self) -> float:
        """Reused / steps, 0 before the first step."""
        return 1 - self.nfe / self.steps if self.steps else 0.0
