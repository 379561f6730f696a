"""`python -m tests.chaos`: seeded trials on a real cluster, and a table of what they showed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.cluster import running
from tests.chaos.results import can_mount
from tests.chaos.store import serving
from tests.chaos.trial import KINDS, Trial, run_trial
from tests.chaos.verify import Verdict


def main(argv: Sequence[str] | None = None) -> int:
    """Run trials; exit code 1 if one of them broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start none later")
    parser.add_argument("--json", default="", help="append each trial to this file")
    parser.add_argument("--table", action="store_true", help="only show what --json holds")
    options = parser.parse_args(argv)
    console = Console(width=110)
    if options.table:
        trials = [_from_json(line) for line in Path(options.json).read_text().splitlines()]
    else:
        trials = []
        for trial in play(options.trials, options.seed, options.kinds, options.seconds):
            console.print(line(trial), highlight=False)
            trials.append(trial)
            if options.json:
                with Path(options.json).open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(trial)) + "\n")
    console.print(table(trials))
    return 0 if all(trial.holds for trial in trials) else 1


def play(trials: int, seed: int, kinds: str = "", seconds: float = float("inf")) -> Iterator[Trial]:
    """Run trials on one cluster with one S3 server."""
    began = time.monotonic()
    chosen = set(kinds.split(",")) if kinds else set(KINDS)
    if not can_mount():
        chosen.discard("disk full")  # said by its absence from the table
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        serving(Path(folder)) as store,
        running(2, store.env) as cluster,
    ):
        for number in range(seed, seed + trials):
            if list(KINDS)[number % len(KINDS)] not in chosen:
                continue
            if time.monotonic() - began > seconds:
                return
            yield run_trial(cluster, store, number)


def line(trial: Trial) -> str:
    """One trial in one line, with what the driver said where something is wrong."""
    state = "ok  " if trial.holds else "FAIL"
    text = f"{state} {trial.seed:3} {trial.kind:19} {trial.moment:26} exits {trial.codes}"
    again = trial.verdict.wasted if trial.verdict else 0
    text += f" drawn again {again}, recovery {trial.recovery_s:.1f} s, {trial.wall_s:.0f} s in all"
    return text if trial.holds else f"{text}\n{trial.verdict} {trial.orphans} {trial.problem}"


def table(trials: Sequence[Trial]) -> Table:
    """Trials by kind of kill."""
    headings = ("killed", "trials", "lost", "duplicated", "torn", "regenerated", "needlessly")
    shown = Table(*headings, "orphans", "not ended", "worst recovery s")
    kinds = [kind for kind in KINDS if any(trial.kind == kind for trial in trials)]
    for kind in (*kinds, "all"):
        own = [trial for trial in trials if kind in ("all", trial.kind)]
        judged = [trial.verdict for trial in own if trial.verdict]
        numbers = (
            len(own),
            sum(v.lost for v in judged),
            sum(v.duplicated for v in judged),
            sum(v.torn for v in judged),
            sum(v.wasted for v in judged),
            sum(len(v.needless) for v in judged),
            sum(len(trial.orphans) for trial in own),
            sum(trial.verdict is None for trial in own),
        )
        worst = max((trial.recovery_s for trial in own), default=0.0)
        shown.add_row(kind, *map(str, numbers), f"{worst:.1f}")
    return shown


def _from_json(text: str) -> Trial:
    fields = json.loads(text)
    verdict = fields.pop("verdict")
    return Trial(**fields, verdict=Verdict(**verdict) if verdict else None)


if __name__ == "__main__":
    sys.exit(main())
