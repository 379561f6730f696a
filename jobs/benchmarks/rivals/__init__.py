"""`rivals`: planned schedules against their nearest relatives, clip by clip, in JOD and decibels.

Unlike `quality` it keeps every batch of clips in a file as soon as it is measured, and goes on from
there; it looks at the uncached run of the same sampler only.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from jobs.benchmarks.quality import SAMPLER_HELP

HELP = "plans against DPCache, LeMiCa, cache-dit and others, also as an eye sees it; resumable"
POINTS = (25, 21, 17, 13, 10, 8)
ARMS = (
    "planned",
    "sencache-paper",
    "fewer-steps",
    "dpcache",
    "lemica",
    "cache-dit",
    "uniform-taylor",
    "planned-own",
    "planned-prior",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument(
        "--label",
        default="",
        metavar="NAME",
        help="name of the results where several models share a spec; default: the spec's name",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", default="", help="prompt file, split by hash")
    parser.add_argument("--split", choices=("dev", "held-out"), default="held-out")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--calibration-clips", type=int, default=4, help="arms are tuned on these")
    parser.add_argument("--batch-rows", type=int, default=0, help="clips per call; 0: the model's")
    parser.add_argument("--sampler", default="both", metavar="NAME", help=SAMPLER_HELP)
    parser.add_argument("--steps", type=int, default=0, help="of the uncached run; 0: the model's")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--nfe", nargs="+", type=int, default=list(POINTS))
    parser.add_argument("--profile", default="", help="default: measured under each sampler")
    parser.add_argument("--cache-dir", default="out/quality-cache", help="keeps profiles")
    parser.add_argument(
        "--partial",
        default="out/rivals.jsonl",
        metavar="FILE",
        help="keeps what is measured; goes on from it",
    )
    parser.add_argument(
        "--batches",
        type=int,
        default=0,
        metavar="N",
        help="measure the first N calls of --batch-rows clips only, and the rest another time; "
        "0: all",
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="stop after the batch that ends later; 0: never"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: Model, prompts, arms or points cannot be used, or the file is of other settings.
    """
    from jobs.benchmarks.rivals.measure import run
    from jobs.benchmarks.rivals.tables import HEADINGS, READING, rows_of, title_of
    from jobs.benchmarks.tables import table

    result = run(options, console)
    for sampler in result["samplers"]:
        rows = rows_of(result, sampler)
        console.print(table(title_of(result, sampler), HEADINGS, rows, READING))
    return result
