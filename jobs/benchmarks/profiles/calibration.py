"""`calibration`: how accurate a sensitivity profile is.

It answers three questions: do other clips give the same profile; does the predicted error rank like
the true one, on clips that the profile was not measured on; can a profile be used with other steps
and shifts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.tables import table
from pipeline.errors import UserError

if TYPE_CHECKING:
    from jobs.benchmarks.profiles.prediction import PredictionAgreement
    from jobs.benchmarks.profiles.transfer import CurveDifference, TransferResult
    from sencache import SenCacheConfig

HELP = "how far a sensitivity profile can be trusted: other clips, its predictions, other samplers"
EPSILONS = (0.05, 0.1, 0.2, 0.4)
BUDGETS = (0.26, 0.34, 0.5)
TRANSFER_EPSILONS = (0.1, 0.2)
EVALUATION_SEED = 1000
"""First seed of the held-out clips, on which no profile is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument("--clips", type=int, default=8, help="clips per calibration")
    parser.add_argument("--held-out", type=int, default=16, help="clips that no profile has seen")
    parser.add_argument(
        "--prompts",
        default="jobs/configs/demo-prompts.txt",
        help="captions of the held-out clips and, after these, of the second calibration",
    )
    parser.add_argument(
        "--calibration-prompts",
        default="pipeline/models/demo/calibration-prompts.txt",
        help="captions of the first calibration",
    )
    parser.add_argument("--steps", type=int, default=30, help="other number of steps")
    parser.add_argument("--shift", type=float, default=5.0, help="other flow shift")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: Model or prompts cannot be used.
    """
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.profiles.prediction import cached_agreement, recorded_agreement
    from jobs.benchmarks.profiles.transfer import compare_profiles, transfer

    if options.clips < 1 or options.held_out < 2:
        raise UserError("--clips must be at least 1 and --held-out at least 2")
    own = _captions(options.calibration_prompts, options.clips)
    captions = _captions(options.prompts, options.held_out + options.clips)
    if len(captions) < options.held_out:
        raise UserError(f"{options.prompts} has {len(captions)} captions, not {options.held_out}")
    bench = load_bench(options.model, options.model_path)
    held_out = bench.requests(captions[: options.held_out], EVALUATION_SEED)
    others = captions[options.held_out :] or own

    console.print(f"calibrating {options.model} twice, {options.clips} clips each")
    profile = bench.calibrate(own, options.clips)
    second = bench.calibrate(others, options.clips, first_seed=options.clips)
    spread = compare_profiles(profile, second)
    console.print(_spread_table(spread, options.clips))

    seen = (own * options.clips)[: options.clips]
    recorded = recorded_agreement(bench, held_out, profile, bench.requests(seen, 0))
    cached: list[PredictionAgreement] = []
    for kind, configs in _arms().items():
        cached += cached_agreement(bench, held_out, profile, kind, configs)
    console.print(_agreement_table([*recorded, *cached], len(held_out)))

    results = transfer(
        bench,
        held_out,
        own,
        profile,
        clips=options.clips,
        epsilons=TRANSFER_EPSILONS,
        settings={
            f"{options.steps} steps": {"num_inference_steps": options.steps},
            f"shift {options.shift:g}": {"shift": options.shift},
        },
    )
    for result in results:
        console.print(_spread_table(result.differences, options.clips, result.name))
    console.print(_transfer_table(results, len(held_out)))
    return {
        "two_sets": [asdict(difference) for difference in spread],
        "prediction": [asdict(agreement) for agreement in (*recorded, *cached)],
        "transfer": [asdict(result) for result in results],
    }


def _arms() -> dict[str, dict[str, SenCacheConfig]]:
    """Return the policies whose predictions are tested, each with several settings."""
    from sencache import SenCacheConfig

    corrected = {f"epsilon {e:g}": SenCacheConfig(epsilon=e, correct=True) for e in EPSILONS}
    return {
        "paper": {f"epsilon {e:g}": SenCacheConfig(epsilon=e) for e in EPSILONS},
        "corrected": corrected,
        "planned": {f"budget {b:g}": SenCacheConfig(policy="planned", budget=b) for b in BUDGETS},
    }


def _captions(uri: str, count: int) -> list[str]:
    from pipeline.prompts.reader import read_source

    rows = [row for row, _ in zip(read_source(uri, "prompt"), range(count), strict=False)]
    if problems := [f"{row.key}: {row.problem}" for row in rows if row.problem]:
        raise UserError(problems[0])
    if not rows:
        raise UserError(f"{uri} holds no captions")
    return [str(row.values["prompt"]) for row in rows]


def _spread_table(differences: Sequence[CurveDifference], clips: int, setting: str = "") -> Any:
    title = f"profiles of two disjoint sets of {clips} clips"
    if setting:
        title = f"{setting}: the default setting's profile against a native one, {clips} clips each"
    rows = [
        (f"{d.branch} {d.name}", f"{d.mean:.1%}", f"{d.worst:.1%}", f"{d.worst_tau:.3f}")
        for d in differences
    ]
    headings = ("sensitivity", "mean difference", "worst", "at tau")
    return table(title, headings, rows, "difference: |a - b| / ((a + b) / 2), mean over tau")


def _agreement_table(agreements: Sequence[PredictionAgreement], clips: int) -> Any:
    rows = [
        (
            a.name,
            f"{a.pairs}",
            f"{a.spearman:.3f}",
            f"{a.ratio:.2f}",
            f"{a.distance_only:.3f}",
            "{:.3f}, {:.2f}".format(*a.along_path) if a.along_path else "",
        )
        for a in agreements
    ]
    headings = ("predicted against true", "pairs", "Spearman", "pred./true", "gap", "path")
    return table(
        f"predicted error, {clips} held-out clips",
        headings,
        rows,
        "pred./true: median of the ratios; gap: Spearman of the mere distance in time; "
        "path: Spearman and pred./true of the output's joint change per tau on calibration clips",
    )


def _transfer_table(results: Sequence[TransferResult], clips: int) -> Any:
    rows = [
        (
            f"{result.name}, epsilon {arm.epsilon:g}",
            f"{arm.native_nfe:.1f}",
            f"{arm.transferred_nfe:.1f}",
            f"{arm.native_psnr_db:.1f}",
            f"{arm.transferred_psnr_db:.1f}",
            f"{arm.difference_db:+.2f} ± {arm.difference_ci95_db:.2f}",
        )
        for result in results
        for arm in result.arms
    ]
    headings = ("setting", "NFE native", "transferred", "PSNR native", "transferred", "difference")
    return table(
        f"a profile under another sampler setting, {clips} held-out clips",
        headings,
        rows,
        "PSNR in dB against the uncached clip of the same setting and seed; "
        "difference: transferred - native, paired, 95 % interval",
    )
