"""Trains the demonstration model: `python -m jobs.benchmarks.demo_model.train --out DIR`.

A run that was killed resumes from its last checkpoint if it is started again with the same folder.
The finished pipeline is in ``DIR/pipeline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from jobs.benchmarks.demo_model.shapes.catalogue import SHAPES
from jobs.benchmarks.demo_model.train.config import (
    TrainConfig,
    default_config,
    pictures_config,
    second_config,
    shape_config,
    shortened,
)
from jobs.benchmarks.demo_model.train.run import train
from jobs.benchmarks.demo_model.train.shaped import save_preview, train_shape
from pipeline.commands.parser import CommandParser


def main(arguments: Sequence[str] | None = None, config: TrainConfig | None = None) -> int:
    """Runs all stages.

    Args:
        arguments: Command line; ``None`` means that of the process.
        config: Hyperparameters; ``None`` means those of the shipped weights.

    Returns:
        The exit status.
    """
    parser = CommandParser(prog="python -m jobs.benchmarks.demo_model.train")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--second",
        action="store_true",
        help="another seed, palette and depth, to check results on a model that is not shipped",
    )
    kind.add_argument(
        "--shape",
        choices=list(SHAPES),
        help="a model of another architecture and parametrisation, to check results on",
    )
    kind.add_argument(
        "--pictures",
        action="store_true",
        help="photographs that installed packages ship, behind one another, at 96 pixels",
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="with --shape: train no further, save the weights so far in DIR/preview",
    )
    parser.add_argument(
        "--shorter",
        type=int,
        default=1,
        metavar="N",
        help="with --pictures: an Nth of the steps and of the encoded clips",
    )
    options = parser.parse_args(arguments)
    if options.preview and not options.shape:
        parser.error("--preview needs --shape")
    if options.shorter != 1 and (options.shorter < 1 or not options.pictures):
        parser.error("--shorter needs --pictures and a number of 1 or more")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    console = Console()
    if options.shape:
        action = save_preview if options.preview else train_shape
        action(SHAPES[options.shape](), config or shape_config(), options.out, console)
        return 0
    chosen = default_config
    if options.second:
        chosen = second_config
    elif options.pictures:
        chosen = pictures_config
    train(config or shortened(chosen(), options.shorter), options.out, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
