"""`ablation`: the ablation studies of the SenCache paper, on any model.

The studies vary the cap on reuses, the threshold, the terms of the score and the calibration, as in
arXiv 2602.24208. The numbers are those of the given model, compared with its uncached run.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.errors import UserError

HELP = "the paper's own studies: n, epsilon, the score's terms, calibration clips, transfer"
STUDIES = ("n", "epsilon", "terms", "calibration", "transfer")
CLIPS, QUICK_CLIPS = 16, 4
WIDTH = 135
"""Columns that the tables need; a narrower console would wrap their lines."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--prompts", default="", help="prompt file, split by hash; the demo model has its own"
    )
    parser.add_argument("--clips", type=int, default=0, help=f"0: {CLIPS}, quick {QUICK_CLIPS}")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--steps", type=int, default=0, help="of a run; 0: the model's")
    parser.add_argument("--quick", action="store_true", help="fewer clips and points")
    parser.add_argument("--tuning-clips", type=int, default=4, help="calibration clips to tune on")
    parser.add_argument(
        "--calibration-clips",
        type=int,
        nargs="+",
        default=[],
        help="of calibrations, each compared with the largest; default: 1 8 32, quick 1 4",
    )
    parser.add_argument("--profile-clips", type=int, default=8, help="of other settings' profiles")
    parser.add_argument("--transfer-steps", type=int, default=30, help="the other number of steps")
    parser.add_argument(
        "--transfer-size",
        type=int,
        nargs=2,
        default=[],
        metavar=("WIDTH", "HEIGHT"),
        help="the other size; default: half",
    )
    parser.add_argument("--cache-dir", default="out/quality-cache", help="keeps measured profiles")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: Model, prompts or numbers cannot be used.
    """
    from jobs.benchmarks.ablation import studies
    from jobs.benchmarks.ablation.lab import load_lab, other_settings
    from jobs.benchmarks.ablation.tables import curve_table, study_table

    _check(options)
    options.clips = options.clips or (QUICK_CLIPS if options.quick else CLIPS)
    lab = load_lab(options, console)
    own, spec = lab.bench.template, lab.bench.model.spec
    other = other_settings(own, spec, options.transfer_steps, options.transfer_size)
    counts = options.calibration_clips or ([1, 4] if options.quick else [1, 8, 32])
    makers = {
        "n": lambda: studies.most_reuses(lab),
        "epsilon": lambda: studies.thresholds(lab),
        "terms": lambda: studies.terms(lab),
        "calibration": lambda: studies.calibration_sizes(lab, counts),
        "transfer": lambda: studies.transfers(lab, other),
    }
    console.width = max(console.width, WIDTH)
    found = {}
    for name in dict.fromkeys(options.studies):
        study = makers[name]()
        console.print(study_table(study, lab.setting))
        if study.curves:
            console.print(curve_table(study))
        found[name] = asdict(study)
    return {
        "model": options.model,
        "revision": lab.bench.model.revision,
        "setting": lab.setting,
        "seeds": [clip.seed for clip in lab.clips],
        "profile": lab.profile.hash,
        "studies": found,
    }


def _check(options: argparse.Namespace) -> None:
    least = {"steps": 0, "clips": 0, "tuning_clips": 1, "profile_clips": 1, "transfer_steps": 3}
    given = [(name, getattr(options, name), low) for name, low in least.items()]
    given += [("calibration_clips", count, 1) for count in options.calibration_clips]
    for name, value, low in given:
        if value < low:
            raise UserError(f"--{name.replace('_', '-')} {value}: at least {low} is needed")
