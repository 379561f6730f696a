"""`flat`: whether cost per sample and memory of the driver stay flat as a run grows.

`python -m jobs.benchmarks.throughput.flat SAMPLES` is one run in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table

HELP = "cost per sample and memory of the driver over many samples, with a null engine"
SIZES = (5_000, 20_000)
LAYOUT = (16, 16)
"""Samples per engine call, and engine calls per Ray task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--samples", type=int, nargs="+", default=list(SIZES), help="of each run")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return each run."""
    results = [_measured(samples) for samples in options.samples]
    first = results[0]["peak_bytes"]
    lines = [
        (
            f"{result['samples']:,}",
            f"{result['total_s']:.1f}",
            f"{result['ms_per_sample']:.2f}",
            f"{result['peak_bytes'] / 2**20:.0f}",
            f"{result['peak_bytes'] / first - 1:+.1%}",
        )
        for result in results
    ]
    headings = ("samples", "run s", "ms per further sample", "driver's peak MiB", "growth")
    console.print(table("null engine, one group", headings, lines))
    return results


def _measured(samples: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.benchmarks.throughput.flat", str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(samples: int) -> dict[str, Any]:
    from jobs.benchmarks.throughput.null_engine import pipeline_cost

    cost = pipeline_cost(samples, *LAYOUT)
    # This process is the driver; Ray's own processes and the actor are others.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "samples": samples,
        "total_s": cost.total_s,
        "ms_per_sample": cost.ms_per_sample,
        "peak_bytes": peak,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(int(sys.argv[1]))) + "\n")
