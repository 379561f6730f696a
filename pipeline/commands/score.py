"""Score the clips of a dataset: `python jobs/score.py --output out/demo --keep "cuts = 0"`.

Clips get the scores that they lack, from any scorers, whichever runs made them. With `--keep` the
rows are judged anew; that reads no clip where all scores are there. Reports and exports take the
stored scores and the last condition. The same command goes on after an interruption. Exit codes: 0
done; 2 bad flags or input; 3 the Ray cluster went away; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.wording import called_as, counted, first_line

if TYPE_CHECKING:
    import pyarrow as pa

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
NAMED = 5
"""Reasons of missing scores that are printed, the most frequent ones."""


def main(argv: Sequence[str] | None = None) -> int:
    """Score a prefix once and return an exit code."""
    options = _parser().parse_args(argv)
    try:
        with interruptible():
            _score(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the stored scores", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _score(options: argparse.Namespace, console: Console) -> None:
    from pipeline.cluster.clip_stage import score_clips
    from pipeline.cluster.connection import check_gpus, connected
    from pipeline.dataset.schema import SCHEMA
    from pipeline.monitoring.console import say
    from pipeline.prefix.needed_parts import needed_parts
    from pipeline.scoring.condition_terms import asked_scores
    from pipeline.scoring.panel import ScorerPanel
    from pipeline.scoring.registry import expanded, load_scorers
    from pipeline.scoring.score_prefix import score_prefix
    from pipeline.scoring.stored_scores import KeepChoice, read_stored, write_choice
    from pipeline.scoring.verdicts import Verdicts, dataset_clips
    from pipeline.storage.places import check_kept
    from pipeline.storage.storage import Storage

    check_kept(options.output)
    storage = Storage(options.output)
    needed_parts(storage)  # before anything is written where a name is misspelt
    check_gpus(options.gpus)
    storage = storage.check_writable()
    names = expanded(options.scorers.split(","))
    scorers = load_scorers(names)
    ScorerPanel(scorers, options.keep)  # checks the condition before anything is scored

    def on_cluster(rows: pa.Table, lacking: tuple[str, ...]) -> Iterator[pa.Table]:
        with connected():  # only where there is something to score
            yield from score_clips(storage, rows, lacking, gpus=options.gpus)

    done = score_prefix(
        storage,
        names,
        scorers,
        on_cluster,
        read_stored(storage),
        progress=lambda now: console.print(
            f"{now.scored} of {now.clips - now.before} clips scored", highlight=False
        ),
    )
    say(
        console,
        f"{counted(done.clips, 'clip')}: {done.scored} scored now, {done.before} before, "
        f"{done.score_s:.1f} s of scoring",
    )
    for reason, clips in done.missing.most_common(NAMED):
        say(console, f"  no score in {counted(clips, 'clip')}: {reason}")
    stored = read_stored(storage)
    if options.keep:
        known = tuple(name for scorer in scorers for name in scorer.scores)
        stored.judged_by(KeepChoice(options.keep, known))
    if stored.choice.keep:
        choice = stored.choice
        verdicts = Verdicts(asked_scores(choice.keep, choice.scores, "--keep"))
        for table in dataset_clips(storage, stored, SCHEMA.empty_table()):
            verdicts.add(table)
        say(console, f"{verdicts.text()}: {choice.keep}")
    if options.keep:  # when it has judged every row
        write_choice(storage, stored.choice)
    if options.keep or done.scored:
        command = f"{called_as('report')} --output {shlex.quote(storage.uri)}"
        say(console, f"To make the page anew with this: {command}", one_line=True)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=first_line(__doc__, "score"))
    parser.add_argument("--output", required=True, help="folder or s3://bucket/prefix of the runs")
    parser.add_argument(
        "--scorers",
        default="basic",
        help="comma-separated: basic (no weights), NAME[=ARGUMENT], module:Class; default basic",
    )
    parser.add_argument("--keep", default="", help="a good clip's scores, in SQL, as cuts = 0")
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="share of a GPU of each scoring process; default 0"
    )
    return parser
