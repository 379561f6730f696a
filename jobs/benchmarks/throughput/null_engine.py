"""Measures the pipeline's own cost per sample: a whole run with an engine that computes nothing.

The engine returns one grey 16x16 frame at once. Everything else is real: intake, Ray Data, the
ledger, mp4 encoding, storing media, rows, Parquet.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.schema import NO_CACHE
from pipeline.engine.protocol import Clip
from pipeline.errors import UserError
from pipeline.requests.sample_request import SampleRequest
from pipeline.run import run

FRAME = np.full((1, 16, 16, 3), 128, np.uint8)


class NullEngine:
    """An engine that returns one grey frame for every request."""

    device_name = "null"
    group_size = 1

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Return one frame per request."""
        return [Clip(FRAME, NO_CACHE, 0) for _ in requests]

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """Cost per sample beyond the engine.

    Attributes:
        samples: Samples made.
        batch_rows: Samples per engine call.
        batches_per_task: Engine calls per Ray task.
        total_s: Wall seconds of the whole run, start of Ray and actors included.
        start_s: Wall seconds of the same run over one sample.
        ms_per_sample: (total - start) / samples.
    """

    samples: int
    batch_rows: int
    batches_per_task: int
    total_s: float
    start_s: float

    @property
    def ms_per_sample(self) -> float:
        """Milliseconds of each further sample."""
        return (self.total_s - self.start_s) / (self.samples - 1) * 1000


def check_samples(samples: int) -> None:
    """Refuse a run without a further sample to time.

    Raises:
        UserError: There are fewer than 2 samples.
    """
    if samples < 2:
        raise UserError(f"--samples {samples}: at least 2 are needed")


def pipeline_cost(samples: int, batch_rows: int, batches_per_task: int) -> PipelineCost:
    """Run `samples` samples, and one sample, through the whole pipeline on a private cluster.

    Args:
        samples: Samples of the long run.
        batch_rows: Samples per engine call.
        batches_per_task: Engine calls per Ray task.

    Raises:
        RuntimeError: A sample did not end ok; the time would mean nothing.
    """
    start_s = _timed(1, batch_rows, batches_per_task)
    total_s = _timed(samples, batch_rows, batches_per_task)
    return PipelineCost(samples, batch_rows, batches_per_task, total_s, start_s)


def _timed(samples: int, batch_rows: int, batches_per_task: int) -> float:
    with tempfile.TemporaryDirectory(prefix="pipeline-cost-") as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("".join(f"prompt number {n}\n" for n in range(samples)))
        config = RunConfig.model_validate(
            {
                "prompts": str(prompts),
                "output": str(Path(folder) / "out"),
                "cache": {"policy": "none"},
                "batch_rows": batch_rows,
                "batches_per_task": batches_per_task,
                "replicas": 1,
                "contact_sheet": False,
                "report": False,
            }
        )
        began = time.perf_counter()
        report = run(config, factory=NullEngine, console=Console(file=io.StringIO()))
        elapsed = time.perf_counter() - began
    if report.totals.ok != samples:
        raise RuntimeError(f"only {report.totals.ok} of {samples} samples ended ok")
    return elapsed
