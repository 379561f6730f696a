"""`python -m tests.mutants`: which small faults in the code the tests notice, module by module."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.equal import read_listed
from tests.mutants.mutant import Mutant, mutants_of
from tests.mutants.score import Score, score_of

WANTED = 90.0
"""Percent of its mutants that the tests of a module must notice."""

SAMPLE = 40
"""Mutants of a module that `--sample` runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run mutants and print a score per module; exit code 1 if one is below `WANTED`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="files, or the beginnings of their paths")
    parser.add_argument("--sample", action="store_true", help=f"at most {SAMPLE} of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    console = Console(width=110, highlight=False, markup=False)
    listed = read_listed()
    scores: dict[str, Score] = {}
    for path, tests in _modules(options.modules).items():
        mutants = mutants_of(Path(path))
        chosen = _sampled(mutants, options.seed) if options.sample else mutants
        survivors = _run(path, tests, chosen, options.jobs)
        scores[path] = score_of(mutants, chosen, survivors, listed)
        for mutant in scores[path].survived:
            console.print(f"{mutant.name}\n- {mutant.old}\n+ {mutant.new}\n")
        for entry in scores[path].stale:
            console.print(f"tests/mutants/equal.toml: no such mutant any more: {entry}\n")
        console.print(_line(path, scores[path]))
    console.print(_table(scores))
    good = all(score.percent >= WANTED and not score.stale for score in scores.values())
    return 0 if good else 1


def _modules(beginnings: Sequence[str]) -> dict[str, list[str]]:
    modules = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutants"]
    return {p: t for p, t in modules.items() if not beginnings or p.startswith(tuple(beginnings))}


def _sampled(mutants: Sequence[Mutant], seed: int) -> list[Mutant]:
    """The same mutants of a module for a seed, whatever other modules there are."""
    counted = [mutant for mutant in mutants if mutant.counts]
    return random.Random(seed).sample(counted, min(SAMPLE, len(counted)))


def _run(path: str, tests: Sequence[str], mutants: Sequence[Mutant], jobs: int) -> set[str]:
    """Run mutants in a process of their own; return the names of those that no test noticed."""
    names = [mutant.name for mutant in mutants if mutant.counts]
    with tempfile.NamedTemporaryFile("r+") as found:
        command = [sys.executable, "-m", "tests.mutants.worker", path, found.name, str(jobs)]
        # One thread for tensors: a process with several cannot be forked.
        env = os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
        lines = "\n".join([*tests, "", *names])
        subprocess.run(command, input=lines, text=True, env=env, check=True)
        return set(found.read().splitlines())


def _line(path: str, score: Score) -> str:
    return f"{path}: {score.killed} killed, {len(score.survived)} survived, {score.percent:.0f} %"


def _table(scores: dict[str, Score]) -> Table:
    headings = ("mutants", "run", "killed", "equal", "survived", "score")
    shown = Table(
        "module", *headings, caption="Not run: mutants of sentences, and of `strict` in zip."
    )
    for path, score in scores.items():
        numbers = (score.all, score.run, score.killed, score.equal, len(score.survived))
        shown.add_row(path, *map(str, numbers), f"{score.percent:.0f} %")
    return shown


if __name__ == "__main__":
    sys.exit(main())
