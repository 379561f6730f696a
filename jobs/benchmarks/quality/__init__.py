"""`quality`: the picture quality of all caching methods, at equal numbers of network evaluations.

Every arm makes the same clips from the same noise. The clips are compared with two references: the
uncached run of the same sampler shows how faithful a cache is, and a converged run shows how good
the result is and allows samplers to be compared.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

HELP = "picture quality of every caching method at equal network evaluations"
SAMPLER_HELP = "euler, unipc, ddim, dpm or another of the model's family; both: Euler and UniPC"
POINTS = (33, 25, 21, 17, 13)
"""NFE points of the main arms in a full run."""
QUICK_POINTS = (25, 21, 17)
"""NFE points of all other arms, and of a quick run."""
WIDTH = 175
"""Columns that the table needs; a narrower console would wrap its lines."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--prompts", default="", help="prompt file, split by hash; the demo model has its own"
    )
    parser.add_argument(
        "--split",
        choices=("dev", "held-out"),
        default="dev",
        help="held-out is for the numbers of a release, once: choose and tune on dev",
    )
    parser.add_argument("--clips", type=int, default=0, help="0 takes all of the set, 64 at most")
    parser.add_argument("--sampler", default="both", metavar="NAME", help=SAMPLER_HELP)
    parser.add_argument("--arms", nargs="+", default=[], help="default: all but ablations")
    parser.add_argument("--nfe", nargs="+", type=int, default=[], help="NFE points of every arm")
    parser.add_argument(
        "--size", default="", metavar="WxHxFRAMES", help="of the clips; default: the model's"
    )
    parser.add_argument("--steps", type=int, default=0, help="of the uncached run; 0: the model's")
    parser.add_argument("--shift", type=float, default=0.0, help="flow shift; 0: the model's")
    parser.add_argument(
        "--profile",
        default="",
        help="sensitivity profile, measured at whatever steps, shift or sampler; default: measured "
        "under each sampler as it runs here",
    )
    parser.add_argument("--quick", action="store_true", help="fewer clips, points and arms")
    parser.add_argument(
        "--calibration-clips", type=int, default=0, help="arms are tuned on these; 0: 8, quick 4"
    )
    parser.add_argument("--batch-rows", type=int, default=0, help="clips per call; 0: the model's")
    parser.add_argument(
        "--reference-steps", type=int, default=0, help="of the converged run; 0 searches for it"
    )
    parser.add_argument(
        "--cache-dir", default="out/quality-cache", help="keeps converged runs and profiles"
    )
    parser.add_argument("--plot", default="", help="also draw the curves here (needs matplotlib)")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: Model, prompts, arms or points cannot be used.
    """
    from jobs.benchmarks.quality.benchmark import run
    from jobs.benchmarks.quality.document.plot import draw, require_matplotlib
    from jobs.benchmarks.quality.document.tables import sampler_table

    if options.plot:
        require_matplotlib()
    options.common = options.nfe or QUICK_POINTS  # NFE points of all arms
    options.nfe = options.nfe or (QUICK_POINTS if options.quick else POINTS)
    result = run(options, console)
    console.width = max(console.width, WIDTH)
    for name in result["samplers"]:
        console.print(sampler_table(result, name))
    if options.plot:
        draw(result, options.plot)
        console.print(f"curves: {options.plot}")
    return result
