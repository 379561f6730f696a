"""Trains the demonstration model: `python -m jobs.benchmarks.demo_model.train --out DIR`.

A run that was killed resumes from its last checkpoint if it is started again with the same folder.
The finished pipeline is in ``DIR/pipeline``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from jobs.benchmarks.demo_model.train.config import (
    TrainConfig,
    default_config,
    second_config,
)
from jobs.benchmarks.demo_model.train.run import train


def main(arguments: Sequence[str] | None = None, config: TrainConfig | None = None) -> int:
    """Runs all stages.

    Args:
        arguments: Command line; ``None`` means that of the process.
        config: Hyperparameters; ``None`` means those of the shipped weights.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmarks.demo_model.train")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    parser.add_argument(
        "--second",
        action="store_true",
        help="another seed, palette and depth, to check results on a model that is not shipped",
    )
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    chosen = second_config() if options.second else default_config()
    train(config or chosen, options.out, Console())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
