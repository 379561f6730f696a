"""`gpu`: the first nine minutes on a GPU, in ten sections; see infra/README.md.

Weights are random at their true sizes, but for the embedded model: nothing is downloaded.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

HELP = "ten measurements in under nine minutes of one H100: kernels, memory, waits, decode, parity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--tiny", action="store_true", help="small shapes, also on a CPU")
    parser.add_argument("--budget-s", type=float, default=540.0, help="skip what no longer fits")
    parser.add_argument("--only", default="", help="sections, comma-separated")
    parser.add_argument("--out", default="first_minutes.json", help="written after each section")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return the sections.

    Raises:
        UserError: A section is unknown.
    """
    from jobs.benchmarks.gpu.plan import SECTIONS
    from jobs.benchmarks.gpu.sections import MeasuredDevice, run_sections
    from pipeline.process import set_allocator

    set_allocator()
    return run_sections(
        SECTIONS,
        MeasuredDevice.here(tiny=options.tiny),
        budget_s=options.budget_s,
        only=tuple(filter(None, options.only.split(","))),
        out=options.out,
        say=lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True),
    )
