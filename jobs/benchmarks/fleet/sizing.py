"""`sizing`: groups, memory and clips per GPU-hour for the models of the sizing guide, estimated.

Prints the rows of the table in infra/README.md; a test compares the two.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from pipeline.errors import UserError

HELP = "memory and clips per GPU-hour of Wan 2.1 by size and policy, estimated from its shape"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--gpu", default="H100", help="H100, A100, L40S, ...")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Estimate, print and return the table.

    Raises:
        UserError: The GPU is unknown.
    """
    from pipeline.report.pricing.cost_model import DEVICES

    if options.gpu not in DEVICES:
        raise UserError(f"--gpu {options.gpu}: should be one of {', '.join(DEVICES)}")
    rows = estimates(options.gpu)
    for row in rows:
        console.print(markdown(row), highlight=False, soft_wrap=True)
    return rows


def estimates(gpu: str) -> list[dict[str, Any]]:
    """Return one row per model and size: smallest group that fits, memory, clips per GPU-hour."""
    from jobs.benchmarks.fleet.simulate import POLICIES
    from pipeline.report.pricing.cost_model import (
        NETWORKS,
        SIZES,
        clip_cost,
        memory_bytes,
        smallest_group,
    )

    rows = []
    for network in NETWORKS.values():
        for size in SIZES:
            memory = {ranks: memory_bytes(network, size, ranks, "planned") for ranks in (1, 2, 4)}
            cost = clip_cost(network, size, gpu)
            rows.append(
                {
                    "model": network.name,
                    "size": size,
                    "gpu": gpu,
                    "ranks": smallest_group(network, size, gpu),
                    "memory_bytes": memory,
                    "clips_per_gpu_hour": {
                        policy: 3600 / (cost.fixed_s + nfe * cost.evaluation_s)
                        for policy, (nfe, _) in POLICIES.items()
                    },
                }
            )
    return rows


def markdown(row: dict[str, Any]) -> str:
    """Return a row of the guide's table as Markdown."""
    memory = " / ".join(f"{size / 1e9:.0f}" for size in row["memory_bytes"].values())
    clips = " | ".join(f"{value:.3g}" for value in row["clips_per_gpu_hour"].values())
    ranks = row["ranks"] or "none"
    return f"| {row['model']} {row['size']} | {row['gpu']} | {ranks} | {memory} | {clips} |"
