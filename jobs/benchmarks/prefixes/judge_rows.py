"""`judge`: time of judging the rows of a prefix by another condition, without reading a clip."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts

HELP = "time of judging scored rows by another --keep"
SCORERS = "basic"
KEEP = "motion > 0.5 and black < 0.9"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--part-rows", type=int, default=10_000, help="rows per Parquet part")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Make scored rows, then judge them in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="judge-") as folder:
        (Path(folder) / "data").mkdir()
        for number, table in enumerate(synthetic_parts(options.rows, options.part_rows)):
            name = f"data/part-synthetic-{number:05d}.parquet"
            pq.write_table(scored(table, number), Path(folder) / name, compression="zstd")
        command = [sys.executable, "-m", "jobs.score", "--output", folder]
        command += ["--scorers", SCORERS, "--keep", KEEP]
        began = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own job
        wall_s = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    console.print(done.stdout.strip(), highlight=False)
    console.print(
        f"{options.rows:,} rows in parts of {options.part_rows:,}: {wall_s:.1f} s, "
        f"{cpu_s:.1f} CPU s, {used.ru_maxrss / 2**20:.2f} GiB at most",
        highlight=False,
    )
    return {
        "rows": options.rows,
        "part_rows": options.part_rows,
        "keep": KEEP,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def scored(rows: pa.Table, seed: int) -> pa.Table:
    """Give rows all scores of the scorers, evenly spread over 0 to 1."""
    from pipeline.scoring.panel import ScoringPlan

    panel = ScoringPlan((SCORERS,)).panel()
    known = panel.unreadable("").to_row()
    values = np.random.default_rng(seed).random((rows.num_rows, len(panel.names)))
    scores = [
        [{"name": name, "value": value} for name, value in zip(panel.names, line, strict=True)]
        for line in values.tolist()
    ]
    for name, column in (
        ("scores", scores),
        ("scorers", [known["scorers"]] * rows.num_rows),
        ("media_sha256", rows["sample_id"].to_pylist()),
    ):
        place = rows.schema.get_field_index(name)
        field = rows.schema.field(place)
        rows = rows.set_column(place, field, pa.array(column, field.type))
    return rows
