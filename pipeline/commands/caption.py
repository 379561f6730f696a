"""Caption the clips of a dataset: `python jobs/caption.py --output out/demo --captioner NAME`.

Writes a new caption for each clip from its frames, on the cluster. Prompts stay as they are. A clip
gets one caption per captioner and version; the same command goes on after an interruption, and
tries clips again that got none. Reports and exports take the captions. Exit codes: 0 done; 2 bad
flags or input; 3 the Ray cluster went away; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.wording import counted, first_line

if TYPE_CHECKING:
    import pyarrow as pa

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
NAMED = 5
"""Reasons of missing captions that are printed, the most frequent ones."""


def main(argv: Sequence[str] | None = None) -> int:
    """Caption a prefix once and return an exit code."""
    options = _parser().parse_args(argv)
    try:
        with interruptible():
            _caption(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the stored captions", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _caption(options: argparse.Namespace, console: Console) -> None:
    from pipeline.captioning.caption_prefix import caption_prefix
    from pipeline.captioning.captioner import identity, load_captioner
    from pipeline.captioning.stored_captions import read_captions
    from pipeline.cluster.clip_stage import caption_clips
    from pipeline.cluster.connection import check_gpus, connected
    from pipeline.monitoring.console import say
    from pipeline.prefix.needed_parts import needed_parts
    from pipeline.storage.places import check_kept
    from pipeline.storage.storage import Storage

    check_kept(options.output)
    storage = Storage(options.output)
    needed_parts(storage)  # before anything is written where a name is misspelt
    check_gpus(options.gpus)
    captioner = load_captioner(options.captioner)
    storage = storage.check_writable()

    def on_cluster(rows: pa.Table) -> Iterator[pa.Table]:
        with connected():  # only where there is something to caption
            yield from caption_clips(storage, rows, options.captioner, gpus=options.gpus)

    done = caption_prefix(
        storage,
        captioner,
        on_cluster,
        read_captions(storage),
        only_good=options.only_good,
        progress=lambda now: console.print(
            f"{now.captioned} of {now.wanted} clips captioned", highlight=False
        ),
    )
    left_out = f", {done.not_good} not good or not judged" if options.only_good else ""
    say(
        console,
        f"{counted(done.clips, 'clip')}: {done.captioned} captioned now by {identity(captioner)}, "
        f"{done.before} before{left_out}, {done.caption_s:.1f} s of captioning",
    )
    for reason, clips in done.failed.most_common(NAMED):
        say(console, f"  no caption for {counted(clips, 'clip')}: {reason}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=first_line(__doc__, "caption"))
    parser.add_argument("--output", required=True, help="folder or s3://bucket/prefix of the runs")
    parser.add_argument(
        "--captioner",
        required=True,
        help="what writes captions: NAME[=ARGUMENT] or module:Class[=ARGUMENT]; "
        "vision-language=FOLDER asks a model of transformers",
    )
    parser.add_argument(
        "--only-good", action="store_true", help="leave out clips that do not meet the last --keep"
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="share of a GPU of each process; default 0"
    )
    return parser
