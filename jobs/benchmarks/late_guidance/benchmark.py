"""`late-guidance`: is it worth to leave unconditional evaluations out, at equal evaluations?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

HELP = "plans that leave unconditional evaluations out, at equal evaluations of the network"
BUDGETS = (76, 34, 26, 20, 16)
"""Evaluations of a clip, both branches counted. 76 of 100 is what leaving guidance off in the last
24 of 50 steps costs."""
SAMPLERS = ("FlowMatchEulerDiscreteScheduler/3.0", "UniPCMultistepScheduler/3.0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model-path", default="", help="another folder with the demo's shape")
    parser.add_argument("--clips", type=int, default=16, help="held-out clips, at most 64")
    parser.add_argument("--tuning-clips", type=int, default=8, help="calibration clips")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--cache-dir", default="out/quality-cache", help="keeps measured profiles")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few captions, or a budget is odd.
    """
    import dataclasses

    from jobs.benchmarks.late_guidance.measure import GuidanceBench, tuning_clips
    from jobs.benchmarks.late_guidance.tables import guidance_table
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.quality.splits import (
        CALIBRATION,
        HELD_OUT,
        demo_captions,
        prompts_hash,
        split_clips,
    )
    from pipeline.errors import UserError

    if odd := [each for each in options.budgets if each % 2 or not 16 <= each < 2 * options.steps]:
        raise UserError(
            f"--budgets {odd[0]}: an even number from 16 to {2 * options.steps - 2} is needed"
        )
    loaded = load_bench("demo", options.model_path, "cpu")
    bench = dataclasses.replace(
        loaded,
        template=dataclasses.replace(loaded.template, num_inference_steps=options.steps),
    )
    measured = split_clips(demo_captions(HELD_OUT), HELD_OUT, options.clips)
    tuning = tuning_clips(demo_captions(CALIBRATION), options.tuning_clips)
    study = GuidanceBench(bench, measured, tuning, Path(options.cache_dir), console.log)
    result: dict[str, Any] = {
        "clips": options.clips,
        "tuning_clips": options.tuning_clips,
        "prompts_hash": prompts_hash(measured),
        "steps": options.steps,
        "guidance_scale": bench.template.guidance_scale,
        "samplers": {},
    }
    for sampler in options.samplers:
        found = study.sampler(sampler, options.budgets)
        result["samplers"][sampler] = found
        console.print(guidance_table(sampler, found))
    return result
