"""`pipeline`: what the pipeline itself costs per sample, the engine apart."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.benchmarks.report import table

HELP = "the pipeline's own cost per sample, with an engine that does next to nothing"
LAYOUTS = ((1, 1), (1, 16), (16, 1))
"""Samples per engine call, and engine calls per Ray task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--samples", type=int, default=5000)


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return the layouts.

    Raises:
        UserError: Too few samples.
    """
    from pipeline.benchmarks.null_engine import pipeline_cost

    results = [pipeline_cost(options.samples, *layout) for layout in LAYOUTS]
    rows = [
        (
            f"{r.batch_rows}",
            f"{r.batch_rows * r.batches_per_task}",
            f"{r.total_s:.1f}",
            f"{r.start_s:.1f}",
            f"{r.ms_per_sample:.2f}",
        )
        for r in results
    ]
    headings = ("samples per engine call", "per Ray task", "run s", "start s", "ms per sample")
    title = f"pipeline cost beyond the engine, {options.samples} samples"
    console.print(table(title, headings, rows))
    return [asdict(r) | {"ms_per_sample": r.ms_per_sample} for r in results]
