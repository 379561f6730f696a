"""`report`: time and memory of a report over synthetic rows."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts

HELP = "time and memory of a report over synthetic rows"
PAGE = "report/index.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part-rows", type=int, default=10_000, help="rows per Parquet part")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Make rows, then a report of them in a process of its own, whose peak memory is its own."""
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        (Path(folder) / "data").mkdir()
        for number, table in enumerate(synthetic_parts(options.rows, options.part_rows)):
            name = f"data/part-synthetic-{number:05d}.parquet"
            pq.write_table(table, Path(folder) / name, compression="zstd")
        command = [sys.executable, "-m", "jobs.report", "--output", folder, "--price", "2"]
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own job
        wall_s = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        page = (Path(folder) / PAGE).stat().st_size
    console.print(
        f"{options.rows:,} rows in parts of {options.part_rows:,}: {wall_s:.1f} s, "
        f"{peak / 2**30:.2f} GiB at most, a page of {page / 1e6:.1f} MB",
        highlight=False,
    )
    return {
        "rows": options.rows,
        "part_rows": options.part_rows,
        "wall_s": wall_s,
        "peak_bytes": peak,
        "page_bytes": page,
    }
