"""`low-end`: what is best at 5 to 13 evaluations, all ways by the code of the product."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.models.samplers import EULER, UNIPC

HELP = "plans, fitted plans and fewer steps at very few evaluations"
POINTS = (5, 6, 8, 10)
SAMPLERS = (f"{EULER}/3.0", f"{UNIPC}/3.0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model-path", default="", help="another folder with the demo's shape")
    parser.add_argument("--clips", type=int, default=16, help="held-out clips, at most 64")
    parser.add_argument("--fit-clips", type=int, default=8, help="calibration clips of the fits")
    parser.add_argument("--profile-clips", type=int, default=8, help="of these, for the profile")
    parser.add_argument("--nfe", type=int, nargs="+", default=list(POINTS))
    parser.add_argument("--ways", nargs="+", default=[], metavar="WAY", help="default: all")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--cache-dir", default="out/quality-cache", help="keeps measured profiles")
    parser.add_argument("--partial", default="out/low-end.jsonl", help="keeps what is done")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few captions, no such way, or a point is no number of steps.
    """
    from jobs.benchmarks.candidates.kept import KeptPrompts
    from jobs.benchmarks.low_end.measure import LowEndBench
    from jobs.benchmarks.low_end.tables import low_end_table
    from jobs.benchmarks.low_end.ways import WAYS
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.quality.splits import (
        CALIBRATION,
        HELD_OUT,
        demo_captions,
        prompts_hash,
        split_clips,
    )
    from pipeline.errors import UserError

    ways = list(options.ways or WAYS)
    if unknown := [way for way in ways if way not in WAYS]:
        raise UserError(f"--ways {unknown[0]}: the ways are {', '.join(WAYS)}")
    bench = load_bench("demo", options.model_path, "cpu")
    steps = bench.template.num_inference_steps
    if bad := [nfe for nfe in options.nfe if not 2 <= nfe <= steps]:
        raise UserError(f"--nfe {bad[0]}: a number from 2 to {steps} is needed")
    measured = split_clips(demo_captions(HELD_OUT), HELD_OUT, options.clips)
    fitting = split_clips(demo_captions(CALIBRATION), CALIBRATION, options.fit_clips)
    settings = {
        "revision": bench.model.revision,
        "clips": options.clips,
        "prompts_hash": prompts_hash(measured),
        "fit_clips": options.fit_clips,
        "profile_clips": options.profile_clips,
        "steps": steps,
    }
    kept = KeptPrompts(Path(options.partial), settings)
    study = LowEndBench(
        bench,
        measured,
        fitting,
        options.profile_clips,
        Path(options.cache_dir),
        kept,
        console.log,
    )
    result: dict[str, Any] = {**settings, "samplers": {}}
    for sampler in options.samplers:
        found = study.sampler(sampler, ways, options.nfe)
        result["samplers"][sampler] = found
        console.print(low_end_table(sampler, found))
    return result
