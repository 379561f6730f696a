"""Run a benchmark: `python jobs/benchmark.py COMMAND`; `COMMAND --help` lists its options.

Every command prints a table and, with `--json FILE`, writes the same numbers with the conditions
under which they were measured.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.storage.places import check_kept

COMMANDS = {
    "ablation": "jobs.benchmarks.ablation",
    "batching": "jobs.benchmarks.sampling.batching",
    "cache": "jobs.benchmarks.sampling.cache",
    "calibration": "jobs.benchmarks.profiles.calibration",
    "decode-beside": "jobs.benchmarks.throughput.decode_beside",
    "dataset": "jobs.benchmarks.throughput.dataset",
    "distilled": "jobs.benchmarks.distilled",
    "draft-frames": "jobs.benchmarks.candidates.draft_frames",
    "draft-shortcuts": "jobs.benchmarks.draft_shortcuts.benchmark",
    "drafts": "jobs.benchmarks.candidates.drafts",
    "first-clips": "jobs.benchmarks.throughput.first_clips",
    "good-clips": "jobs.benchmarks.candidates.good_clips",
    "gpu": "jobs.benchmarks.gpu",
    "groups": "jobs.benchmarks.throughput.groups",
    "late-guidance": "jobs.benchmarks.late_guidance.benchmark",
    "low-end": "jobs.benchmarks.low_end.benchmark",
    "worst-clips": "jobs.benchmarks.low_end.worst_clips",
    "overhead": "jobs.benchmarks.sampling.overhead",
    "flat": "jobs.benchmarks.throughput.flat",
    "judge": "jobs.benchmarks.prefixes.judge_rows",
    "memory": "jobs.benchmarks.memory",
    "metadata": "jobs.benchmarks.prefixes.metadata",
    "pipeline": "jobs.benchmarks.throughput.pipeline",
    "prior": "jobs.benchmarks.profiles.prior",
    "promise": "jobs.benchmarks.profiles.promise",
    "quality": "jobs.benchmarks.quality",
    "rivals": "jobs.benchmarks.rivals",
    "report": "jobs.benchmarks.prefixes.report_rows",
    "scorers": "jobs.benchmarks.scoring.detection",
    "simulate": "jobs.benchmarks.fleet.simulate",
    "sizing": "jobs.benchmarks.fleet.sizing",
}
"""The module of each command. A module has `HELP`, `add_arguments(parser)` and
`main(options, console)`, which returns JSON values; it imports heavy libraries only in `main`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser(given).parse_args(given)
        if options.json:
            check_kept(options.json)  # now and not after the measurement
        result = options.measure(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        from jobs.benchmarks.tables import conditions

        text = json.dumps({"conditions": conditions(), "result": result}, indent=2)
        Path(options.json).write_text(text + "\n")
    return 0


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the given command, or of all commands if none of them is given.

    Raises:
        UserError: The benchmarks are not installed.
    """
    if importlib.util.find_spec("jobs.benchmarks") is None:
        raise UserError(
            "the benchmarks are not part of the installed package: run this job in a checkout"
        )
    parser = CommandParser(description=__doc__.split("\n")[0] if __doc__ else "")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    chosen = given[0] if given and given[0] in COMMANDS else None
    for name, path in COMMANDS.items():
        if chosen in (None, name):
            module = importlib.import_module(path)
            command = commands.add_parser(name, help=module.HELP, description=module.HELP)
            module.add_arguments(command)
            command.add_argument("--json", default="", help="also write the numbers here")
            command.set_defaults(measure=module.main)
    return parser


if __name__ == "__main__":
    sys.exit(main())
