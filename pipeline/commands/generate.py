"""Make a clip dataset: `python jobs/generate.py --config jobs/configs/demo.yaml`.

Exit codes: 0 done; 1 more samples failed, or more rows were rejected, than allowed; 2 bad
configuration or input; 3 the Ray cluster went away; 130 interrupted. With 3 and 130 what is made is
kept, and the same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig, load_config
from pipeline.errors import UserError
from pipeline.interrupt import interruptible

if TYPE_CHECKING:
    from pipeline.monitoring.result import RunResult

LIST_MODELS = "--list-models"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one generation job and return its exit code."""
    try:
        if LIST_MODELS in (sys.argv[1:] if argv is None else argv):
            return list_models()
        with interruptible():  # from the start, because loading libraries takes a while
            config = load_config(sys.argv[1:] if argv is None else argv)
            from pipeline.run import run  # loads Ray, so not before the command line is checked

            result = run(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:  # before the first clip or after the last one
        return EXIT_INTERRUPTED
    if result.interrupted:
        return EXIT_INTERRUPTED
    problems = _too_many(config, result)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return EXIT_FAILED if problems else 0


def list_models() -> int:
    """Print the models that `--model` takes and return the exit code."""
    from rich.console import Console

    from pipeline.models.catalogue.table import LEGEND, models_table, unpinned

    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(models_table())
    console.print(LEGEND, style="dim")
    for line in unpinned():
        console.print(line, style="dim")
    return 0


def _too_many(config: RunConfig, result: RunResult) -> list[str]:
    """Say of what there is more than allowed."""
    found = []
    if result.rejected_fraction > config.max_rejected_fraction:
        found.append(
            f"{result.rejected} of {result.read} input rows were rejected, more than "
            f"--max-rejected-fraction {config.max_rejected_fraction:g} allows; "
            + (
                "a run writes the reason of each into its output row"
                if config.dry_run
                else "the output rows say why"
            )
        )
    if not config.dry_run and result.failed_fraction > config.max_failed_fraction:
        found.append(
            f"{result.failed_fraction:.1%} of the samples failed, more than --max-failed-fraction "
            f"{config.max_failed_fraction:g} allows; the output rows say why, and --retry-failed "
            "tries them again"
        )
    return found
