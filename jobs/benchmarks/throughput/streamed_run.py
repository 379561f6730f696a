"""Measures how soon a run of the command line has its first clip, whatever its input's size.

`python -m jobs.benchmarks.throughput.streamed_run FOLDER CLIPS` runs the prompts of a folder, with
an engine that computes nothing, until so many clips are made. With 0 clips the run ends by itself.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.benchmarks.throughput import null_engine
from pipeline.config.run_config import RunConfig
from pipeline.engine.protocol import Clip
from pipeline.requests.sample_request import SampleRequest
from pipeline.run import run

BATCH_ROWS = 16
LOOK_EVERY_S = 0.1


class LoggedNullEngine(null_engine.NullEngine):
    """Writes into a file when it is ready, and when each call of how many clips begins."""

    def __init__(self, log: str) -> None:
        """Be ready."""
        self._log = log
        self._write(0)

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Return one frame per request."""
        self._write(len(requests))
        return super().generate(requests)

    def _write(self, clips: int) -> None:
        with Path(self._log).open("a") as file:
            file.write(f"{time.time()} {clips}\n")


class LoggedFactory:
    """Makes the engine inside an actor."""

    def __init__(self, log: str) -> None:
        """The engine writes into `log`."""
        self._log = log

    def __call__(self) -> LoggedNullEngine:
        """Make it."""
        return LoggedNullEngine(self._log)


class ToldLines(io.StringIO):
    """Takes what a run says, and notes when it says that its input is counted."""

    counted_at = 0.0

    def write(self, text: str) -> int:
        """Keep a text."""
        if "All rows are read" in text:
            self.counted_at = time.time()
        return super().write(text)


def measure(folder: Path, clips: int) -> dict[str, Any]:
    """Run the prompts of a folder.

    Args:
        folder: Holds `prompts.parquet`, and `out` if something is done already.
        clips: Clips after which the run is stopped; 0 lets it end.
    """
    import psutil
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(null_engine)
    log = folder / "calls"
    log.touch()
    config = RunConfig.model_validate(
        {
            "prompts": str(folder / "prompts.parquet"),
            "output": str(folder / "out"),
            "cache": {"policy": "none"},
            "batch_rows": BATCH_ROWS,
            "batches_per_task": BATCH_ROWS,
            "replicas": 1,
            "scorers": ["none"],
            "contact_sheet": False,
            "report": False,
        }
    )
    over, peak = threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        me = psutil.Process()
        while not over.wait(LOOK_EVERY_S):
            peak = max(peak, me.memory_info().rss)
            if clips and sum(count for _, count in _calls(log)) >= clips:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch)
    told = ToldLines()
    began = time.time()
    watcher.start()
    result = run(config, factory=LoggedFactory(str(log)), console=Console(file=told, width=200))
    ended = time.time()
    over.set()
    watcher.join()
    ready, *calls = _calls(log)
    made = sum(count for _, count in calls[:-1])
    return {
        "first_s": calls[0][0] - began,
        "after_ready_s": calls[0][0] - ready[0],
        "counted_s": told.counted_at - began if told.counted_at else None,
        "whole_s": ended - began,
        "clips": sum(count for _, count in calls),
        "ok": result.totals.ok,
        "ms_per_sample": (calls[-1][0] - calls[0][0]) / max(made, 1) * 1000,
        "driver_bytes": peak,
    }


def _calls(log: Path) -> list[tuple[float, int]]:
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(float(line[0]), int(line[1])) for line in lines if len(line) == 2]


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
