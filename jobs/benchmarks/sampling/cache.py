"""`cache`: compares cached sampling with uncached sampling and with fewer sampler steps."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table

HELP = "cached against uncached sampling of a model: NFE, wall ratio, PSNR"
EPSILONS = (0.05, 0.1, 0.2, 0.4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument("--prompts", default="jobs/configs/demo-prompts.txt")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--max-reuse", type=int, default=3)


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return the arms.

    Raises:
        UserError: Model or prompts cannot be used.
    """
    from jobs.benchmarks.sampling.cache_arms import cache_arms
    from jobs.benchmarks.sampling.compare import CONTROL, compare

    engine, arms, batch_rows = cache_arms(
        options.model,
        options.model_path,
        options.prompts,
        options.clips,
        epsilons=EPSILONS,
        max_reuse=options.max_reuse,
    )
    results = compare(engine, arms, batch_rows=batch_rows)
    rows = []
    for r in results:
        control = r.name == CONTROL
        rows.append(
            (
                r.name,
                f"{r.nfe_mean:.1f}",
                f"{r.nfe_max}",
                f"{r.wall_s:.1f}",
                f"{r.wall_ratio:.2f}x",
                "reference" if control else f"{r.psnr_mean_db:.1f} ± {r.psnr_ci95_db:.1f}",
                "" if control else f"{r.psnr_min_db:.1f}",
            )
        )
    headings = ("arm", "NFE mean", "NFE max", "wall s", "speed-up", "PSNR dB", "worst")
    title = f"{options.model}, {len(arms[CONTROL])} clips, {engine.device_name}"
    console.print(table(title, headings, rows))
    return [asdict(r) for r in results]
