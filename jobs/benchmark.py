"""Measure: `python jobs/benchmark.py cache` or `python jobs/benchmark.py overhead`.

    cache      cached against uncached sampling of a model: NFE, wall ratio, PSNR
    overhead   what the pipeline costs per sample beyond the engine

Both print a table and, with `--json FILE`, write the same numbers with their conditions.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from pipeline.schema import versions

EPSILONS = (0.05, 0.1, 0.2, 0.4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        result = options.measure(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        conditions = {"command": " ".join(sys.argv), "cpu": _cpu(), "versions": versions()}
        text = json.dumps({"conditions": conditions, "result": result}, indent=2)
        Path(options.json).write_text(text + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    commands = parser.add_subparsers(required=True)
    cache = commands.add_parser("cache", help="cached against uncached: NFE, wall ratio, PSNR")
    cache.add_argument("--model", default="demo")
    cache.add_argument("--model-path", default="")
    cache.add_argument("--prompts", default="jobs/configs/demo-prompts.txt")
    cache.add_argument("--clips", type=int, default=24)
    cache.add_argument("--max-reuse", type=int, default=3)
    cache.set_defaults(measure=_cache)
    overhead = commands.add_parser("overhead", help="cost per sample beyond the engine")
    overhead.add_argument("--samples", type=int, default=5000)
    overhead.set_defaults(measure=_overhead)
    for command in (cache, overhead):
        command.add_argument("--json", default="", help="also write the numbers here")
    return parser


def _cache(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    from pipeline.benchmarks.arms import cache_arms
    from pipeline.benchmarks.cache import compare

    engine, arms, batch_rows = cache_arms(
        options.model,
        options.model_path,
        options.prompts,
        options.clips,
        epsilons=EPSILONS,
        max_reuse=options.max_reuse,
    )
    results = compare(engine, arms, batch_rows=batch_rows)
    table = Table(title=f"{options.model}, {len(arms['uncached'])} clips, {engine.device_name}")
    for heading in ("arm", "NFE mean", "NFE max", "wall s", "speed-up", "PSNR dB", "worst"):
        table.add_column(heading, justify="left" if heading == "arm" else "right", no_wrap=True)
    for r in results:
        table.add_row(
            r.name,
            f"{r.nfe_mean:.1f}",
            f"{r.nfe_max}",
            f"{r.wall_s:.1f}",
            f"{r.wall_ratio:.2f}x",
            "reference" if r.name == "uncached" else f"{r.psnr_mean_db:.1f} ± {r.psnr_ci95_db:.1f}",
            "" if r.name == "uncached" else f"{r.psnr_min_db:.1f}",
        )
    console.print(table)
    return [asdict(r) for r in results]


def _overhead(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    from pipeline.benchmarks.overhead import measure_overhead

    table = Table(title=f"pipeline cost beyond the engine, {options.samples} samples, {_cpu()}")
    headings = ("samples per engine call", "per Ray task", "run s", "start s", "ms per sample")
    for heading in headings:
        table.add_column(heading, justify="right")
    results = []
    for batch_rows, batches_per_task in ((1, 1), (1, 16), (16, 1)):
        r = measure_overhead(options.samples, batch_rows, batches_per_task)
        results.append(asdict(r) | {"ms_per_sample": r.ms_per_sample})
        table.add_row(
            f"{r.batch_rows}",
            f"{r.batch_rows * r.batches_per_task}",
            f"{r.total_s:.1f}",
            f"{r.start_s:.1f}",
            f"{r.ms_per_sample:.2f}",
        )
    console.print(table)
    return results


def _cpu() -> str:
    from pipeline.device import device_name, pick_device

    return f"{device_name(pick_device('cpu'))}, {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
