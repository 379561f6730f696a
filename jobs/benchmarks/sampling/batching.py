"""`batching`: rows with independent decisions, in batches of several sizes.

It measures three things: whether the network computes exactly the rows that are needed, how its
time compares with plain forwards of these rows, and whether a sample equals its batch of one.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.sampling.load_loop import add_model_arguments, load_loop
from jobs.benchmarks.tables import table
from pipeline.errors import UserError

if TYPE_CHECKING:
    from jobs.benchmarks.sampling.row_costs import BatchResult

HELP = "rows computed against rows needed in batches of mixed prompts, and their wall time"
ROWS = ("rows", "mixed steps", "computed", "needed", "ratio", "all agree", "off by", "verdicts")
ROWS_CAPTION = (
    "computed: rows through the network's first block, all branches. needed: the same samples in "
    "batches of one. all agree: a step runs for all samples as soon as one needs it, in a separate "
    "run. off by: largest difference of a latent from the sample's batch of one, in units of its "
    "rms. verdicts: samples whose verdicts differ from those of their batch of one."
)
TIMES = ("rows", "NFE", "network s", "of ideal", "plain forward ms", "per row ms")
TIMES_CAPTION = "of ideal: seconds in the network / those of plain forwards of just those rows."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_model_arguments(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    # The threshold at which rows of the demo model disagree most.
    parser.add_argument("--epsilon", type=float, default=0.15)
    parser.add_argument("--max-reuse", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=9, help="of the timed runs")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return the batches and the cost of plain forwards.

    Raises:
        UserError: Model, profile, prompts, device or an option cannot be used.
    """
    from jobs.benchmarks.sampling.denoising_loop import Arm
    from jobs.benchmarks.sampling.row_costs import measure_batches
    from pipeline.engine.device import device_name
    from sencache import SenCacheConfig

    if min(options.rows) < 1:
        raise UserError(f"--rows {min(options.rows)}: at least 1 is needed")
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: at least 1 is needed")
    loop, profile = load_loop(options, max(options.rows))

    def arm(name: str, **settings: Any) -> Arm:
        try:
            config = SenCacheConfig(
                policy="paper", epsilon=options.epsilon, max_reuse=options.max_reuse, **settings
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        return Arm(name, config, profile)

    # With one bucket of the whole batch, a step runs for all samples or for none.
    agreeing = {rows: arm("all agree", row_buckets=(rows,)) for rows in options.rows}
    results, forwards = measure_batches(loop, arm("own verdicts"), agreeing, options.repeats)
    title = (
        f"{options.model}, epsilon {options.epsilon:g}, {loop.steps} steps, median of "
        f"{options.repeats}, {device_name(loop.device)}"
    )
    console.print(table(title, ROWS, [_row_cells(r) for r in results], ROWS_CAPTION))
    by_rows = {result.rows: result for result in results}
    times = [_time_cells(rows, s, by_rows.get(rows)) for rows, s in forwards.items()]
    console.print(table("", TIMES, times, TIMES_CAPTION))
    return {
        "batches": [asdict(r) | {"ratio": r.computed / r.needed} for r in results],
        "forward_s": forwards,
    }


def _row_cells(result: BatchResult) -> tuple[str, ...]:
    return (
        f"{result.rows}",
        f"{result.mixed_steps} of {result.steps}",
        f"{result.computed}",
        f"{result.needed}",
        f"{result.computed / result.needed:.3f}",
        f"{result.agreeing}",
        f"{result.max_difference:.1e}",
        f"{result.other_verdicts} of {result.rows}",
    )


def _time_cells(rows: int, seconds: float, result: BatchResult | None) -> tuple[str, ...]:
    return (
        f"{rows}",
        f"{result.nfe_mean:.1f}" if result else "",
        f"{result.transformer_s:.3f}" if result else "",
        f"{result.against_ideal:.3f}" if result else "",
        f"{seconds * 1e3:.2f}",
        f"{seconds / rows * 1e3:.2f}",
    )
