"""Export a dataset for a trainer: `python jobs/export.py --output out/demo --to out/wds`.

Exports are deterministic and resumable: the same command again writes only what is missing. Exit
codes: 0 done; 1 done but for damaged clips or missing parts of the rows, which are named; 2 bad
flags or input; 130 interrupted.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.redaction import shown
from pipeline.wording import are, called_as, counted, first_line, listed, quoted

if TYPE_CHECKING:
    from pipeline.dataset.manifest import RunStatus
    from pipeline.dataset.parts import PartName
    from pipeline.export.select import Selection

EXIT_INCOMPLETE = 1
ONE_SPLIT = "train"
NAMED = 20
"""Damaged clips that are named on stderr."""


def scaled_shares(text: str) -> Iterator[str]:
    """Say what `--splits` came to, where its shares do not add up to 1."""
    from pipeline.export.select import parse_splits

    shares = parse_splits(text)
    asked = [float(item.partition("=")[2] or 1) for item in text.split(",")]
    if not math.isclose(sum(asked), 1, abs_tol=1e-6):
        each = ", ".join(f"{name} {share:.4g}" for name, share in shares.items())
        yield f"shares add up to {sum(asked):g} and were scaled to 1: {each}"


def why_empty(chosen: Selection, split_by: str) -> str:
    """Say why a split has no clip, and what gives it some."""
    by = split_by or "prompt"
    if any(found.flag == "--split-by" and found.clips == found.of for found in chosen.lacking):
        by = "prompt"  # no clip has a value in the column
    if chosen.texts > 1:
        return (
            f"clips of one {by} stay together, and there are too few for so small a share; a "
            "larger one (--splits) gives it some"
        )
    if by == "prompt":
        return "all clips have the same prompt, and clips of one prompt stay together"
    return (
        f"all clips have the same value in {by}, and clips of one value stay together; another "
        "column (--split-by), or clips of other values (--where), can be divided"
    )


def both(where: str, condition: str) -> str:
    """A condition beside the one that the export had."""
    return f"({where}) and {condition}" if where else condition


def incomplete(
    lost: Mapping[str, Sequence[PartName]], runs: Sequence[RunStatus], output: str
) -> Iterator[str]:
    """Say which parts of the rows an export was made without, and what completes it.

    Args:
        lost: The missing parts by run id; not empty.
        runs: All runs into the prefix.
        output: The prefix.
    """
    from pipeline.config.run_command import run_command
    from pipeline.dataset.parts import count_missing

    its = "its" if sum(map(len, lost.values())) == 1 else "their"
    yield f"error: {count_missing(lost)}, and the export lacks {its} clips."
    # A run of a program has no input, whose columns the others record.
    configs = {run.run_id: run.config for run in runs if run.columns is not None}
    made: dict[str, list[str]] = {}
    for run_id in lost:
        made.setdefault(run_command(configs.get(run_id, {}), output), []).append(run_id)
    take = "To take them over from their mp4s, without making them again, run"
    for command, ids in made.items():
        if command:
            yield f"{take} this in the folder in which run {shown(ids[-1])} was started:"
            yield f"  {shown(command)}"
        else:
            which = "runs" if len(ids) > 1 else "run"
            yield f"{take} the command or program of {which} {shown(listed(ids))} again."
    yield "After that, export into a new or emptied folder: this export stays without them."


def main(argv: Sequence[str] | None = None) -> int:
    """Export once and return an exit code."""
    from pipeline.dataset.manifest import all_runs
    from pipeline.dataset.parts import missing_parts, part_files, tell_missing
    from pipeline.export.export import DAMAGED_KEY, export
    from pipeline.export.formats import FORMATS
    from pipeline.export.select import parse_splits, select
    from pipeline.monitoring.console import say
    from pipeline.report.tables.clip_kinds import run_seeds
    from pipeline.storage.places import check_kept
    from pipeline.storage.storage import Storage

    parser = CommandParser(description=first_line(__doc__, "export"))
    parser.add_argument("--output", required=True, help="output prefix of the runs")
    parser.add_argument("--to", required=True, help="folder or s3://bucket/prefix of the export")
    shapes = "; ".join(f"{name}: {form.help}" for name, form in FORMATS.items())
    parser.add_argument("--format", metavar="NAME", default="webdataset", help=shapes)
    parser.add_argument(
        "--where", default="", help='SQL condition over output rows, e.g. "width > 64"'
    )
    parser.add_argument("--splits", default=ONE_SPLIT, help="e.g. train=0.9,val=0.1; by prompt")
    parser.add_argument(
        "--split-by",
        default="",
        metavar="COLUMN",
        help="a column of the input that rows keep in `source`: clips of one value are in one "
        "split, in place of clips of one prompt",
    )
    parser.add_argument(
        "--stratify-by",
        default="",
        metavar="SQL",
        help="a value of output rows, as width or source->>'topic': clips of each value are "
        "divided in these shares, as exactly as whole prompts allow",
    )
    parser.add_argument(
        "--captions",
        choices=("prompt", "recaption"),
        default="prompt",
        help=f"the caption of a clip: its prompt, or what `{called_as('caption')}` wrote; default "
        "prompt",
    )
    parser.add_argument(
        "--bucket-by",
        default="",
        metavar="NAMES",
        help="shards of clips of one resolution, aspect or length; some of these, comma-separated",
    )
    parser.add_argument(
        "--without-tensors",
        action="store_true",
        help="leave out what --save stored; it is exported where clips have it",
    )
    parser.add_argument(
        "--shard-rows",
        type=int,
        help="most clips per shard; default 500, with tensors 100 or what 2 GB hold",
    )
    parser.add_argument("--with-controls", action="store_true", help="export controls too")
    options = parser.parse_args(argv)
    console = Console()
    try:
        if (form := FORMATS.get(options.format)) is None:
            close = difflib.get_close_matches(options.format, FORMATS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UserError(
                f"--format {options.format}: should be one of {', '.join(FORMATS)}{hint}"
            )
        if options.shard_rows is not None and options.shard_rows < 1:
            raise UserError(f"--shard-rows {options.shard_rows}: should be at least 1")
        if options.bucket_by and not form.buckets:
            raise UserError(
                f"--bucket-by {options.bucket_by}: should be left out with --format "
                f"{options.format}, which has no shards"
            )
        if options.without_tensors and form.needs:
            raise UserError(
                f"--without-tensors: should be left out with --format {options.format}, which "
                "consists of them"
            )
        form.check()
        if options.captions == "recaption" and options.format == "hub":
            raise UserError(
                "--captions recaption: should be left out with --format hub, whose rows hold both "
                "columns, caption and recaption"
            )
        check_kept(options.to)
        source, target = Storage(options.output), Storage(options.to)
        runs = all_runs(source)
        if lost := missing_parts(part_files(source), runs):  # listed after the runs were read
            print(f"warning: {tell_missing(lost)}", file=sys.stderr)
        with (
            interruptible(),
            select(
                source,
                where=options.where,
                splits=parse_splits(options.splits),
                shard_rows=options.shard_rows or 0,
                controls=options.with_controls,
                split_by=options.split_by,
                stratify_by=options.stratify_by,
                recaptions=options.captions == "recaption",
                bucket_by=options.bucket_by,
                tensors=form.tensors and not options.without_tensors,
                needs=form.needs,
                seeds=run_seeds({run.run_id: {"config": run.config} for run in runs}),
            ) as chosen,
            console.status("exporting") as status,
        ):
            done = export(
                source,
                target,
                chosen,
                options.format,
                missing_parts=sum(map(len, lost.values())),
                progress=lambda done, total: status.update(f"{done}/{total} shards"),
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is left", file=sys.stderr)
        return 130
    say(
        console,
        f"{counted(chosen.clips - len(done.damaged), 'clip', grouped=True)} in "
        f"{counted(len(chosen.shards), 'shard', grouped=True)} at "
        f"{target.uri}, {done.written:,} of them written now",
    )
    if done.settings.is_mixed:
        say(console, f"{done.settings.heading()} To export one kind alone, to another --to:")
        for line in done.settings.lines(
            lambda found: f"--where {quoted(both(options.where, found))}"
        ):
            say(console, f"  {line}", one_line=True)
    if options.splits != ONE_SPLIT:
        sizes: Counter[str] = Counter()
        for shard in chosen.shards:
            sizes[shard.split] += shard.clips
        names = list(parse_splits(options.splits))
        divided = (f"{name} {sizes[name] - done.damaged_by_split[name]:,}" for name in names)
        say(console, f"clips by split: {', '.join(divided)}")
        for line in scaled_shares(options.splits):
            say(console, line)
        if sizes and (empty := [name for name in names if not sizes[name]]):
            why = why_empty(chosen, options.split_by)
            say(console, f"warning: no clip in {', '.join(empty)}: {why}")
    if chosen.with_tensors:
        clips = counted(chosen.with_tensors - done.damaged_with_tensors, "clip", grouped=True)
        say(console, f"{clips} with tensors")
    if chosen.without:
        clips = counted(chosen.without, "clip", grouped=True)
        say(console, f"{clips} left out, without {' or '.join(form.needs)} (--save)")
    for found in chosen.lacking:
        say(console, found.line())
    if with_prompt := chosen.with_prompt - done.damaged_with_prompt:
        clips = counted(with_prompt, "clip", grouped=True)
        say(console, f"{clips} without a new caption: exported with the prompt")
    for sample_id, problem in sorted(done.damaged.items())[:NAMED]:
        print(f"damaged: {shown(sample_id)}: {problem}", file=sys.stderr)
    if done.damaged:
        print(
            f"error: {counted(len(done.damaged), 'clip', grouped=True)} {are(len(done.damaged))} "
            "missing or damaged and left out of the export "
            f"({target.uri}/{DAMAGED_KEY} names them); the command that made them makes them "
            "again with --verify",
            file=sys.stderr,
        )
    for line in incomplete(lost, runs, source.uri) if lost else ():
        print(line, file=sys.stderr)
    return EXIT_INCOMPLETE if done.damaged or lost else 0
