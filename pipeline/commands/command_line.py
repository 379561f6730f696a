"""Finds and runs a command: `sencache-pipeline NAME ...`, or `python jobs/NAME.py ...`.

Imports the standard library alone, so that an installation without the extra `pipeline` can say
what it lacks.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.redaction import guard_output
from pipeline.supervisor import supervised
from pipeline.wording import PROGRAM

EXIT_USAGE = 2
NEEDED = ("ray", "pyarrow", "pydantic_settings", "yaml", "rich", "av", "duckdb", "fsspec")
"""Modules of the extra `pipeline` that show whether it is installed."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        module: Has `main(argv)`, which returns the exit code.
        help: What it does, in one line.
        uses_cluster: Whether it may start or join a Ray cluster; it then runs below a supervisor.
    """

    module: str
    help: str
    uses_cluster: bool = False

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run it in this process and return its exit code.

        Args:
            argv: Its arguments; None takes those of the process.
        """
        if problem := _what_is_missing():
            print(f"error: {problem}", file=sys.stderr)
            return EXIT_USAGE
        code: int = importlib.import_module(self.module).main(argv)
        return code

    def run(self) -> int:
        """Run it as this process, with the arguments of the process; returns the exit code."""
        guard_output()
        return supervised(self.main) if self.uses_cluster else self.main()


COMMANDS = {
    "generate": Command("pipeline.commands.generate", "make a dataset of clips from prompts", True),
    "report": Command("pipeline.commands.report", "say what a dataset holds and what it cost"),
    "export": Command("pipeline.commands.export", "write a dataset in the format of a trainer"),
    "score": Command("pipeline.commands.score", "score the clips of a dataset", True),
    "caption": Command("pipeline.commands.caption", "write new captions for its clips", True),
    "calibrate": Command("pipeline.commands.calibrate", "measure the profile of a model", True),
    "rewrite": Command("pipeline.commands.rewrite", "rewrite a file of prompts", True),
    "benchmark": Command("jobs.benchmark", "run a benchmark; needs a checkout"),
}


def main() -> int:
    """Run the command that the arguments of the process name, and return the exit code."""
    program, *given = sys.argv
    name = given[0] if given else ""
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        wrong = f"{name} is no command{meant}" if name else "name a command"
        print(f"error: {wrong}: {', '.join(COMMANDS)}; see --help", file=sys.stderr)
        return EXIT_USAGE
    # Usage lines name the program so.
    sys.argv = [f"{Path(program).with_name(PROGRAM)} {name}", *given[1:]]
    return COMMANDS[name].run()


def _usage() -> str:
    lines = [f"  {name:10} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [flags]",
            "",
            *lines,
            "",
            f"`{PROGRAM} COMMAND --help` lists the flags of a command.",
        ]
    )


def _what_is_missing() -> str:
    """Say what of the extra `pipeline` is not installed, "" if all of it is."""
    missing = [name for name in NEEDED if not _is_package(name)]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed: "
        "pip install 'sencache-pipeline[pipeline]'"
    )


def _is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a mere folder `ray` has no origin
