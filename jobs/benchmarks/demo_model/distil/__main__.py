"""Distils the demonstration model: `python -m jobs.benchmarks.demo_model.distil --out DIR`.

A run that was killed resumes from its last checkpoint if it is started again with the same folder.
The LoRA is ``DIR/distilled.safetensors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from jobs.benchmarks.demo_model.distil.config import DistilConfig, default_config
from jobs.benchmarks.demo_model.distil.run import distil
from pipeline.commands.parser import CommandParser


def main(arguments: Sequence[str] | None = None, config: DistilConfig | None = None) -> int:
    """Makes the teacher's trajectories and trains the student.

    Args:
        arguments: Command line; ``None`` means that of the process.
        config: Hyperparameters; ``None`` means those of the shipped adapter.

    Returns:
        The exit status.
    """
    parser = CommandParser(prog="python -m jobs.benchmarks.demo_model.distil")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    distil(config or default_config(), options.out, Console())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
