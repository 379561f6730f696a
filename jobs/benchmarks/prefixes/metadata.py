"""`metadata`: the cost of finding the samples that are left, for up to a million rows."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table

HELP = "time and memory of a resume plan, beside the filter of Ray Data's checkpoint"
SIZES = (10_000, 100_000, 1_000_000)
SIDES = ("ours", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES), help="per prefix")
    parser.add_argument("--part-rows", type=int, default=1000, help="rows per Parquet part")
    parser.add_argument("--skip-ray", action="store_true", help="measure this pipeline alone")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return each size."""
    from jobs.benchmarks.prefixes.resume_cost import make_prefix

    results = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="metadata-") as folder:
            made = make_prefix(Path(folder), rows, part_rows=options.part_rows)
            console.print(f"{rows} rows in {made.parts} parts, {made.left} left", highlight=False)
            for side in SIDES[: 1 if options.skip_ray else 2]:
                results.append({"rows": rows, "side": side, **_measured(side, made.folder)})
    lines = [
        (
            f"{result['rows']:,}",
            {"ours": "this pipeline", "ray": "Ray Data's checkpoint"}[result["side"]],
            f"{result['plan_s']:.2f}",
            f"{result['cpu_s']:.2f}",
            f"{result['plan_s'] / result['rows'] * 1e6:.1f}",
            f"{result['peak_bytes'] / 2**30:.2f}",
            f"{result['before_bytes'] / 2**30:.2f}",
            f"{result['left']:,}",
        )
        for result in results
    ]
    headings = ("rows", "by", "plan s", "CPU s", "us per row", "peak GiB", "of it before", "left")
    console.print(
        table("what is left, of rows that are committed but for 1 in 1000", headings, lines)
    )
    return results


def _measured(side: str, folder: Path) -> dict[str, Any]:
    """Run one side in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "jobs.benchmarks.prefixes.resume_cost", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
